# Means of designs that make_emmeans.R lacks, by emmeans.  Rscript make_extra.R (in this folder).
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(pbkrtest); library(jsonlite)})
emm_options(msg.nesting = FALSE, msg.interaction = FALSE)
set.seed(1)
d <- expand.grid(rep = 1:6, county = c("A", "B", "C", "D", "E"), g = paste0("g", 1:8))
d$state <- factor(c(A = "X", B = "X", C = "Y", D = "Y", E = "Y")[as.character(d$county)])
d <- d[-sample(nrow(d), 50), ]
d$w <- round(runif(nrow(d), .5, 2), 3); d$z <- rbinom(nrow(d), 1, .4); d$x <- round(rnorm(nrow(d)), 3)
d$trt <- factor(sample(c("t1", "t2"), nrow(d), TRUE)); d$dose <- factor(sample(c(1, 2, 10), nrow(d), TRUE))
d$y <- round(rnorm(nrow(d)) + as.numeric(d$county) + d$z + 0.3 * d$x^2 + rnorm(8)[as.numeric(factor(d$g))], 3)
d <- d[, c("y", "g", "state", "county", "trt", "dose", "z", "x", "w")]
write.csv(d, "data/extra.csv", row.names = FALSE, quote = FALSE)
ctl <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
cols <- function(s) { s <- as.data.frame(s); lapply(s, function(v) if (is.factor(v)) as.character(v) else unname(v)) }
fits <- list(
  nested = list("y ~ state + state:county + z + x + trt + (1|g)", NULL),
  nested_main = list("y ~ state + county + trt + (1|g)", NULL),
  weighted = list("y ~ state*trt + z*trt + x + (1|g)", "w"),
  curved = list("y ~ trt*x + I(x^2) + log(x + 5) + dose + (1|g)", NULL),
  dose = list("y ~ dose*trt + (1|g)", NULL),
  no_intercept = list("y ~ 0 + county + trt + (1|g)", NULL),
  hole = list("y ~ state*trt*dose + (1|g)", NULL))
asked <- list(
  nested = list(list("county"), list("state"), list("trt"), list("z"), list("~county|trt"), list("trt", weights = "proportional"), list("county", weights = "proportional"), list("county", weights = "cells"), list("state", weights = "cells"), list("z", weights = "outer"), list("county", weights = "outer")),
  nested_main = list(list("county"), list("state"), list("trt")),
  weighted = list(list("trt"), list("trt", weights = "proportional"), list("trt", weights = "cells"), list("z", weights = "outer"), list("~state*z|trt")),
  curved = list(list("trt"), list("dose"), list("~trt|x", at = list(x = c(-1, 0, 2))), list("~1")),
  dose = list(list("dose"), list("~dose|trt"), list("~dose*trt")),
  no_intercept = list(list("county"), list("trt")),
  hole = list(list("state"), list("dose"), list("trt"), list("~state*trt"), list("dose", weights = "cells"), list("state", weights = "cells")))
out <- list()
for (n in names(fits)) {
  f <- fits[[n]]; dat <- if (n == "hole") d[!(d$state == "X" & d$trt == "t1" & d$dose == "2"), ] else d
  m <- if (is.null(f[[2]])) suppressMessages(lmerTest::lmer(as.formula(f[[1]]), dat, control = ctl)) else suppressMessages(lmerTest::lmer(as.formula(f[[1]]), dat, weights = w, control = ctl))
  o <- list(formula = f[[1]], weights = f[[2]], means = list())
  for (a in asked[[n]]) {
    sp <- if (grepl("^~", a[[1]])) as.formula(a[[1]]) else a[[1]]
    e <- suppressMessages(emmeans(m, sp, weights = if (is.null(a$weights)) "equal" else a$weights, at = a$at, lmer.df = "satterthwaite"))
    k <- list(specs = a[[1]], weights = a$weights, at = a$at, table = cols(summary(e)))
    if (nrow(k$table |> as.data.frame()) > 1) {
      k$contrasts <- lapply(setNames(nm = c("pairwise", "poly", "consec", "eff", "trt.vs.ctrl")), function(me) tryCatch(cols(summary(contrast(e, me, adjust = "none"), infer = TRUE)), error = function(x) NULL))
      k$adjusted <- lapply(setNames(nm = c("tukey", "holm", "fdr", "bonferroni", "sidak")), function(ad) tryCatch(cols(summary(pairs(e), adjust = ad, infer = TRUE)), error = function(x) NULL))
    }
    o$means[[length(o$means) + 1]] <- k
  }
  jt <- tryCatch(cols(as.data.frame(suppressMessages(joint_tests(m, lmer.df = "satterthwaite")))), error = function(x) NULL)
  o$joint_tests <- jt
  if (n == "curved") o$trends <- cols(summary(emtrends(m, "trt", var = "x", lmer.df = "satterthwaite", delta.var = 1e-4)))
  out[[n]] <- o
}
out$R <- R.version.string; out$versions <- sapply(c("emmeans", "lme4", "lmerTest"), function(p) as.character(packageVersion(p)))
write_json(out, "golden/extra_means.json", digits = NA, auto_unbox = TRUE, na = "null", null = "null")
