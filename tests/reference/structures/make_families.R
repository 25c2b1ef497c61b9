# Structured covariances of random effects in generalised models, by glmmTMB.
# Rscript make_families.R > golden/families.json
suppressMessages({ library(glmmTMB); library(jsonlite) })
cake <- as.data.frame(lme4::cake); cbpp <- as.data.frame(lme4::cbpp)
cake$temperature <- factor(as.character(cake$temperature)); cake$recipe <- factor(as.character(cake$recipe))
cake$high <- as.integer(cake$angle > 31); cake$count <- pmax(cake$angle - 17, 0)
control <- glmmTMBControl(optCtrl = list(rel.tol = 1e-14, iter.max = 2000, eval.max = 2000))
models <- list(
  poisson_ar1 = list(count ~ recipe + ar1(0 + temperature | replicate), poisson(), cake),
  poisson_cs_crossed = list(count ~ 1 + cs(0 + recipe | replicate) + (1 | temperature), poisson(), cake),
  nbinom2_cs = list(count ~ recipe + cs(0 + recipe | replicate), nbinom2(), cake),
  binomial_ar1 = list(high ~ recipe + ar1(0 + temperature | replicate), binomial(), cake),
  cbpp_ar1 = list(cbind(incidence, size - incidence) ~ period + ar1(0 + period | herd), binomial(), cbpp))
out <- lapply(models, function(one) {
  m <- suppressWarnings(glmmTMB(one[[1]], one[[3]], family = one[[2]], control = control))
  o <- m$obj; p <- m$fit$par
  for (i in 1:8) {  # Newton's steps to the optimum, which the search leaves early
    step <- try(solve(optimHess(p, o$fn, o$gr), as.numeric(o$gr(p))), silent = TRUE)
    if (inherits(step, "try-error") || !all(is.finite(step)) || !is.finite(o$fn(p - step)) || o$fn(p - step) > o$fn(p) + 1e-8) break
    p <- p - step
  }
  v <- o$fn(p); H <- optimHess(p, o$fn, o$gr); se <- sqrt(diag(solve(H)))
  invisible(o$fn(p)); r <- o$env$report(o$env$last.par)
  b <- names(p) == "beta"
  list(minus2logLik = 2 * v, gradient = max(abs(o$gr(p))), fixef = unname(p[b]), se = unname(se[b]),
    sd = r$sd[[1]], cor = r$corr[[1]][1, 2])
})
cat(toJSON(c(list(versions = list(R = R.version.string, glmmTMB = as.character(packageVersion("glmmTMB")))), out),
  digits = NA, auto_unbox = TRUE, pretty = TRUE), "\n")
