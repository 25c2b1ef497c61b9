# Structures over visits beside random effects that subjects share: glmmTMB (ML; its residual
# variance is set to nearly nothing) and nlme's lme (REML).  Writes data/raters.csv and
# golden/beside.json.  Rscript make_beside.R
suppressMessages({ library(glmmTMB); library(nlme); library(jsonlite) })
set.seed(14)
S <- 60; V <- 4
d <- data.frame(subject = rep(seq_len(S), each = V), visit = rep(seq_len(V), S))
d$site <- (d$subject - 1) %% 8 + 1; d$rater <- sample(6, S * V, TRUE); d$arm <- ((d$subject - 1) %/% 8) %% 2
d$x <- round(rnorm(S * V), 3); d$w <- round(runif(S * V, 0.5, 2), 3)
R <- chol(0.3^abs(outer(1:V, 1:V, "-")) * outer(c(1, 1.2, 1.4, 1.6), c(1, 1.2, 1.4, 1.6)))
e <- c(t(matrix(rnorm(S * V), S) %*% R))
d$y <- round(10 + 0.5 * d$x + d$arm + rnorm(8)[d$site] * 0.8 + rnorm(6)[d$rater] * 0.6 + rnorm(S)[d$subject] * 1.2 + e, 4)
d <- d[runif(nrow(d)) > 0.2, ]; rownames(d) <- NULL
write.csv(d, "data/raters.csv", row.names = FALSE, quote = FALSE)
for (v in c("subject", "visit", "site", "rater")) d[[paste0(v, "F")]] <- factor(d[[v]])
found <- list()
ctl <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-14, x.tol = 1e-10))
for (s in c(us = "us", toeph = "toep", ar1 = "ar1", csh = "cs", diag = "diag")) {
  name <- c(us = "us", toep = "toeph", ar1 = "ar1", cs = "csh", diag = "diag")[[s]]
  f <- as.formula(sprintf("y ~ x + arm + (1 | siteF) + (1 | raterF) + %s(0 + visitF | subjectF)", s))
  m <- suppressWarnings(glmmTMB(f, d, dispformula = ~0, control = ctl))
  at <- m$fit$par
  for (i in 1:4) at <- at - c(solve(optimHess(at, m$obj$fn, m$obj$gr), c(m$obj$gr(at))))  # Newton
  sd <- exp(at[names(at) == "theta"][1:2]); b <- as.list(setNames(at[names(at) == "beta"], names(fixef(m)$cond)))
  found[[paste0(name, "_crossed")]] <- list(method = "ML", residual = sprintf("%s(visit | subject)", name),
    formula = "y ~ x + arm + (1 | site) + (1 | rater)", minus2logLik = 2 * m$obj$fn(at), fixef = b,
    variances = list(site = sd[[1]]^2, rater = sd[[2]]^2))
}
lc <- lmeControl(maxIter = 500, msMaxIter = 500, msTol = 1e-12, tolerance = 1e-10, opt = "nlminb", returnObject = TRUE)
put <- function(name, m, residual, extra = list()) {
  v <- suppressWarnings(as.numeric(VarCorr(m)[, "Variance"])); v <- v[!is.na(v)]
  found[[name]] <<- c(list(method = "REML", residual = residual, formula = "y ~ x + arm + (1 | site) + (1 | subject)",
    minus2logLik = -2 * as.numeric(logLik(m)), fixef = as.list(fixef(m)), se = as.list(sqrt(diag(vcov(m)))),
    variances = list(site = v[1], subject = v[2])), extra)
}
put("ar1_nested", lme(y ~ x + arm, d, ~ 1 | site / subject, corAR1(form = ~ visit | site / subject), control = lc), "ar1(visit | subject)")
put("ar1h_nested", lme(y ~ x + arm, d, ~ 1 | site / subject, corAR1(form = ~ visit | site / subject), weights = varIdent(form = ~ 1 | visitF), control = lc), "ar1h(visit | subject)")
put("ar1_weights", lme(y ~ x + arm, d, ~ 1 | site / subject, corAR1(form = ~ visit | site / subject), weights = varFixed(~ I(1 / w)), control = lc), "ar1(visit | subject)", list(weights = "w"))
found$versions <- list(R = as.character(getRversion()), glmmTMB = as.character(packageVersion("glmmTMB")), nlme = as.character(packageVersion("nlme")))
write_json(found, "golden/beside.json", auto_unbox = TRUE, digits = 12, pretty = TRUE)
