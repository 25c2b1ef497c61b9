# Models with a variance for every stratum beside random effects of two factors, by nlme and
# glmmTMB, and sandwich covariances by clubSandwich.  Rscript make_strata.R > golden/strata.json
suppressMessages({
  library(nlme); library(glmmTMB); library(clubSandwich); library(jsonlite); library(lme4)
})
cake <- as.data.frame(lme4::cake)
cake$temperature <- factor(as.character(cake$temperature))
cake$recipe <- factor(as.character(cake$recipe))
cake$replicate <- factor(as.integer(as.character(cake$replicate)))

nested <- function(method) lme(angle ~ recipe + temp, data = cake, random = ~ 1 | replicate / recipe,
  weights = varIdent(form = ~ 1 | temperature), method = method,
  control = lmeControl(opt = "optim", msTol = 1e-12, tolerance = 1e-10, reltol = 1e-14, maxIter = 500, msMaxIter = 5000))
one <- nested("REML"); two <- nested("ML")
plain <- lme(angle ~ recipe + temp, data = cake, random = ~ 1 | replicate / recipe)
robust <- sapply(c("CR0", "CR2", "CR3"), function(kind)
  sqrt(diag(as.matrix(vcovCR(one, cluster = cake$replicate, type = kind)))), simplify = FALSE)
tests <- coef_test(one, vcovCR(one, cluster = cake$replicate, type = "CR2"), test = "Satterthwaite")

crossed <- function(reml) glmmTMB(angle ~ recipe + (1 | replicate) + (1 | temperature), data = cake,
  dispformula = ~ recipe, REML = reml, control = glmmTMBControl(optCtrl = list(rel.tol = 1e-14, iter.max = 1000, eval.max = 1000)))
three <- crossed(FALSE)
at <- grep("^betad", names(three$fit$par))
profiled <- sapply(at[2:3], function(i) {
  p <- TMB::tmbprofile(three$obj, name = i, trace = FALSE, ytol = 4, ystep = 0.02)
  confint(p, level = 0.95)
})
strip <- function(x) as.list(x)
cat(toJSON(list(
  versions = list(R = R.version.string, nlme = as.character(packageVersion("nlme")),
    glmmTMB = as.character(packageVersion("glmmTMB")), clubSandwich = as.character(packageVersion("clubSandwich"))),
  nested = list(minus2logLik = -2 * as.numeric(logLik(one)), ml = -2 * as.numeric(logLik(two)),
    plain = -2 * as.numeric(logLik(plain)), fixef = strip(fixef(one)), se = strip(sqrt(diag(vcov(one)))),
    sigma = one$sigma, ratios = strip(coef(one$modelStruct$varStruct, unconstrained = FALSE)),
    normalized = unname(resid(one, type = "normalized"))[1:6], pearson = unname(resid(one, type = "pearson"))[1:6],
    robust = lapply(robust, strip), robust_df = unname(tests$df)),
  crossed = list(minus2logLik = -2 * as.numeric(logLik(three)), fixef = strip(fixef(three)$cond),
    se = strip(sqrt(diag(vcov(three)$cond))), disp = strip(fixef(three)$disp), profile = profiled,
    aic = AIC(three))), digits = NA, auto_unbox = TRUE, pretty = TRUE), "\n")
