# Dispersion models, zeros, truncated counts and REML beside glmmTMB: writes golden/wider.json.  Rscript make_wider.R [case ...]
# Optima are polished by Newton steps with glmmTMB's exact gradients; standard errors are from differences of these.
suppressMessages({ library(glmmTMB); library(emmeans); library(jsonlite) })
only <- commandArgs(TRUE)
read <- function(name) read.csv(file.path("data", paste0(name, ".csv")), stringsAsFactors = TRUE)
owls <- read("owls"); cbpp <- read("cbpp_x"); sleep <- read("sleep_g"); clutch <- read("clutch")
clutch$food <- factor(clutch$food, levels = c("low", "mid", "high"))
owls$w <- 1 + (seq_len(nrow(owls)) %% 3) / 2
sleep$w <- 1 + (seq_len(nrow(sleep)) %% 4) / 4
DATA <- list(owls = owls, cbpp_x = cbpp, sleep_g = sleep, clutch = clutch, owls_positive = owls[owls$calls > 0, ])
KEEP <- new.env()
polish <- function(start, objective, gradient, control = list(), ...) {
  env <- environment(objective)
  env$inner.control$grad.tol <- 1e-12; env$inner.control$tol <- 1e-12; env$inner.control$tol10 <- 0; env$inner.control$maxit <- 1000
  fit <- nlminb(start, objective, gradient, control = list(rel.tol = 1e-15, x.tol = 1e-13, iter.max = 3000, eval.max = 6000))
  x <- fit$par
  for (it in 1:6) {
    g <- as.vector(gradient(x)); H <- numDeriv::jacobian(function(z) as.vector(gradient(z)), x, method.args = list(d = 1e-3, r = 4)); H <- (H + t(H)) / 2
    s <- -solve(H, g); y <- x + s; x <- y; if (max(abs(s)) < 1e-10) break }
  f <- objective(x); KEEP$H <- H; KEEP$x <- x; KEEP$gradient <- max(abs(gradient(x))); objective(x)
  list(par = x, objective = f, convergence = 0, message = "polished", iterations = 1, evaluations = 1)
}
OWL <- "calls ~ ft * sex + offset(logBroodSize) + (1 | Nest)"
C <- function(data, formula, family, zi = ~0, disp = ~1, REML = FALSE, weights = NULL, emm = NULL) list(data = data, formula = formula, family = family, zi = zi, disp = disp, REML = REML, weights = weights, emm = emm)
CB <- "cbind(incidence, size - incidence) ~ period + (1 | herd)"; CL <- "cbind(hatched, eggs - hatched) ~ food + temp + (1 | nest)"
cases <- list(
  reml_binomial_cbpp = C("cbpp_x", CB, quote(binomial()), REML = TRUE),
  reml_probit_cbpp = C("cbpp_x", CB, quote(binomial("probit")), REML = TRUE),
  reml_poisson_crossed = C("owls", "calls ~ ft + sex + offset(logBroodSize) + (1 | Nest) + (1 | tb)", quote(poisson()), REML = TRUE),
  reml_nbinom2 = C("owls", OWL, quote(nbinom2()), REML = TRUE),
  reml_nbinom1_slope = C("owls", "calls ~ ft + sex + (ft | Nest)", quote(nbinom1()), REML = TRUE),
  reml_gamma_slope = C("sleep_g", "Reaction ~ Days + grp + (Days | Subject)", quote(Gamma("log")), REML = TRUE),
  reml_beta = C("cbpp_x", "ybeta ~ period + (1 | herd)", quote(beta_family()), REML = TRUE),
  reml_zip = C("owls", OWL, quote(poisson()), zi = ~ ft, REML = TRUE),
  reml_betabinomial = C("clutch", CL, quote(betabinomial()), REML = TRUE),
  reml_tweedie = C("owls", "NegPerChick ~ ft + sex + atime + (1 | Nest)", quote(tweedie()), REML = TRUE),
  reml_gamma_dispersion = C("sleep_g", "Reaction ~ Days + (1 | Subject)", quote(Gamma("log")), disp = ~ half, REML = TRUE),
  reml_hurdle = C("owls", OWL, quote(truncated_nbinom2()), zi = ~ ft + sex, REML = TRUE),
  disp_nbinom2 = C("owls", OWL, quote(nbinom2()), disp = ~ ft, emm = "~ ft | sex"),
  disp_nbinom2_crossed = C("owls", "calls ~ ft + sex + (1 | Nest) + (1 | tb)", quote(nbinom2()), disp = ~ sex + atime),
  disp_nbinom1_slope = C("owls", "calls ~ ft + sex + (ft | Nest)", quote(nbinom1()), disp = ~ sex),
  disp_beta = C("cbpp_x", "ybeta ~ period + (1 | herd)", quote(beta_family()), disp = ~ period),
  disp_gamma_slope = C("sleep_g", "Reaction ~ Days + (Days | Subject)", quote(Gamma("log")), disp = ~ Days),
  disp_gamma_weights = C("sleep_g", "Reaction ~ Days * grp + (1 | Subject)", quote(Gamma("log")), disp = ~ half, weights = "w"),
  disp_gaussian_log = C("sleep_g", "Reaction ~ Days + (1 | Subject)", quote(gaussian("log")), disp = ~ Days),
  disp_tweedie = C("owls", "NegPerChick ~ ft + sex + (1 | Nest)", quote(tweedie()), disp = ~ ft),
  disp_betabinomial = C("clutch", CL, quote(betabinomial()), disp = ~ food),
  betabinomial_cloglog = C("clutch", CL, quote(betabinomial("cloglog"))),
  zip_crossed = C("owls", "calls ~ ft + sex + offset(logBroodSize) + (1 | Nest) + (1 | tb)", quote(poisson()), zi = ~ ft + atime, emm = "~ ft"),
  zip_weights = C("owls", OWL, quote(poisson()), zi = ~ sex, weights = "w"),
  zip_plain = C("owls", "calls ~ ft * sex + atime + (1 | Nest)", quote(poisson()), zi = ~ ft, emm = "~ ft | sex"),
  zinb2 = C("owls", "calls ~ ft + sex + atime + (1 | Nest)", quote(nbinom2()), zi = ~ ft * sex, emm = "~ ft | sex"),
  zinb1_slope = C("owls", "calls ~ ft + sex + (0 + ft | Nest)", quote(nbinom1()), zi = ~ ft, emm = "~ ft"),
  zinb2_dispersion = C("owls", OWL, quote(nbinom2()), zi = ~ ft, disp = ~ sex, emm = "~ ft | sex"),
  zibinomial = C("clutch", "cbind(hatched, eggs - hatched) ~ temp + (1 | nest)", quote(binomial()), zi = ~ 1),
  hurdle_poisson_crossed = C("owls", "calls ~ ft + sex + (1 | Nest) + (1 | tb)", quote(truncated_poisson()), zi = ~ ft + atime, emm = "~ ft"),
  hurdle_nbinom2 = C("owls", "calls ~ ft + sex + atime + (1 | Nest)", quote(truncated_nbinom2()), zi = ~ ft * sex, emm = "~ ft | sex"),
  hurdle_gamma = C("owls", "NegPerChick ~ ft + sex + (1 | Nest)", quote(ziGamma("log")), zi = ~ ft, emm = "~ ft"),
  truncated_nbinom2 = C("owls_positive", "calls ~ ft + sex + (1 | Nest) + (1 | tb)", quote(truncated_nbinom2())),
  truncated_nbinom1 = C("owls_positive", "calls ~ ft + sex + offset(logBroodSize) + (1 | Nest)", quote(truncated_nbinom1()))
)
table <- function(e) { s <- as.data.frame(summary(e, infer = c(TRUE, FALSE))); k <- intersect(c("emmean", "response", "rate", "prob"), names(s))[1]; list(labels = lapply(s[intersect(c("ft", "sex"), names(s))], as.character), estimate = s[[k]], se = s$SE) }
# Expected responses over the grid, averaged, with errors by the delta method: this emmeans has no component = "response" of these fits.
averaged <- function(cs, x, V, names_x) {
  fixed <- lme4::nobars(as.formula(cs$formula))[-2]; used <- union(all.vars(fixed), all.vars(cs$zi))
  if ("logBroodSize" %in% used) return(NULL)
  nd <- expand.grid(lapply(setNames(used, used), function(v) if (is.factor(dat[[v]])) levels(dat[[v]]) else mean(dat[[v]])), stringsAsFactors = TRUE)
  for (v in used) if (is.factor(dat[[v]])) nd[[v]] <- factor(nd[[v]], levels = levels(dat[[v]]))
  X <- model.matrix(fixed, nd); Z <- model.matrix(cs$zi, nd); family <- as.character(cs$family)[1]
  value <- function(x) { mu <- exp(drop(X %*% x[names_x == "beta"])); k <- exp(x[names_x == "betad"])[1]; p <- plogis(drop(Z %*% x[names_x == "betazi"]))
    zero <- switch(family, truncated_poisson = exp(-mu), truncated_nbinom2 = (k / (k + mu))^k, 0); (1 - p) * mu / (1 - zero) }
  keys <- intersect(c("ft", "sex"), all.vars(as.formula(cs$emm))); cell <- interaction(nd[keys], drop = TRUE); A <- t(sapply(levels(cell), function(l) (cell == l) / sum(cell == l)))
  f <- function(x) drop(A %*% value(x)); J <- numDeriv::jacobian(f, x); first <- match(levels(cell), cell)
  list(labels = lapply(nd[first, keys, drop = FALSE], as.character), estimate = I(unname(f(x))), se = I(unname(sqrt(diag(J %*% V %*% t(J))))))
}
fit <- function(cs) {
  dat <<- DATA[[cs$data]]
  a <- list(formula = as.formula(cs$formula, env = globalenv()), data = quote(dat), family = cs$family, ziformula = cs$zi, dispformula = cs$disp, REML = cs$REML, control = quote(glmmTMBControl(optimizer = polish, optCtrl = list())))
  if (!is.null(cs$weights)) a$weights <- as.name(cs$weights)
  m <- suppressWarnings(eval(as.call(c(quote(glmmTMB::glmmTMB), a)), globalenv()))
  obj <- m$obj; x <- KEEP$x; H <- KEEP$H; V <- solve(H); names_x <- names(obj$par); b <- fixef(m)
  obj$fn(x); last <- obj$env$last.par; random <- obj$env$random; Hrr <- as.matrix(obj$env$spHess(last, random = TRUE)); W <- solve(Hrr)
  part <- function(name, label) { i <- which(names_x == name); if (!length(i)) NULL else list(names = I(label), estimate = I(unname(x[i])), se = I(unname(sqrt(diag(V)[i])))) }
  beta <- if (cs$REML) {
    own <- which(names(last)[random] == "beta")
    J <- numDeriv::jacobian(function(z) { obj$fn(z); obj$env$last.par[random][own] }, x, method.args = list(d = 1e-3, r = 4)); obj$fn(x)
    VB <- W[own, own] + J %*% V %*% t(J)
    list(names = I(names(b$cond)), estimate = I(unname(last[random][own])), se = I(sqrt(diag(VB))), se_glmmTMB = I(unname(sqrt(diag(vcov(m)$cond)))))
  } else part("beta", names(b$cond))
  vc <- VarCorr(m)$cond
  bm <- which(names(last)[random] == "b")
  out <- list(formula = cs$formula, data = cs$data, family = deparse(cs$family), zi = deparse(cs$zi), disp = deparse(cs$disp), REML = cs$REML, weights = cs$weights,
    minus2logLik = 2 * obj$fn(x)[1], npar = attr(logLik(m), "df"), beta = beta, zi_part = part("betazi", names(b$zi)), disp_part = part("betad", names(b$disp)),
    extra = I(unname(x[names_x %in% c("thetaf", "psi")])),
    random = lapply(vc, function(v) list(terms = I(rownames(v)), sd = I(unname(attr(v, "stddev"))), corr = unname(attr(v, "correlation")))),
    modes = I(unname(last[random][bm])[1:10]), mode_sd_given_theta = I(sqrt(diag(W))[bm][1:10]), gradient = KEEP$gradient)
  if (!is.null(cs$emm)) { out$emmeans <- list(specs = cs$emm)
    for (component in c("cond", "zi")) { e <- tryCatch(suppressMessages(emmeans(m, as.formula(cs$emm), component = component)), error = function(e) NULL)
      if (!is.null(e)) { out$emmeans[[component]] <- table(e); out$emmeans[[paste0(component, "_response")]] <- tryCatch(table(regrid(e)), error = function(e) NULL) } }
    if (cs$zi != ~0) out$emmeans$mean <- averaged(cs, x, V, names_x) }
  out
}
path <- "golden/wider.json"
found <- if (file.exists(path)) fromJSON(path, simplifyVector = FALSE) else list()
for (id in names(cases)) if (!length(only) || id %in% only) {
  t0 <- proc.time()[[3]]; r <- tryCatch(fit(cases[[id]]), error = function(e) { message(id, ": ", conditionMessage(e)); NULL })
  if (!is.null(r)) { found[[id]] <- r; message(sprintf("%s %.6f gradient %.1e, %.1f s", id, r$minus2logLik, r$gradient, proc.time()[[3]] - t0)) }
}
found$versions <- list(R = R.version.string, glmmTMB = as.character(packageVersion("glmmTMB")), TMB = as.character(packageVersion("TMB")), emmeans = as.character(packageVersion("emmeans")))
write(toJSON(found, auto_unbox = TRUE, digits = 15, null = "null", na = "null"), path)
