# Analysis-of-variance tables of lmerTest for designs that the other cases lack: empty cells, three
# factors, covariates within factors, weights, other contrasts, aliased columns.
# Rscript anova_cases.R  (in this folder) writes golden/extra.anova.json, data included.
suppressPackageStartupMessages(library(lmerTest))
source("golden_lib.R")

set.seed(20240611)
n <- 150
pick <- function(levels, prob) factor(sample(levels, n, TRUE, prob), levels)
d <- data.frame(
  a = pick(c("p", "q", "r"), c(.5, .3, .2)), b = pick(c("k", "l", "m", "o"), c(.4, .3, .2, .1)),
  c = pick(c("s", "t"), c(.65, .35)), g = pick(paste0("g", 1:12), NULL),
  x = round(rnorm(n, 2), 3), z = round(runif(n, -1, 3), 3), w = round(runif(n, .5, 2), 3))
d$x2 <- 2 * d$x - 1
d$e <- d$b                                               # as b, but without r with o and q with m
d$e[d$a == "r" & d$e == "o"] <- "k"
d$e[d$a == "q" & d$e == "m"] <- "l"
d$f <- d$e                                                # cells a:f not connected: p, q with k, l; r with m, o
d$f[d$a != "r" & d$f %in% c("m", "o")] <- "k"
d$f[d$a == "r"] <- rep(c("m", "o"), length.out = sum(d$a == "r"))
d$h <- d$e                                               # as e, but with one row in q with m
d$h[which(d$a == "q" & d$h == "l")[1]] <- "m"
d$y <- round(5 + as.integer(d$a) * (as.integer(d$c) + .4 * d$x) + .5 * as.integer(d$b) + .3 * d$z +
  rnorm(12)[as.integer(d$g)] + rnorm(n), 4)

cases <- list(
  list(id = "two_way", fixed = "a * b"),
  list(id = "two_way_additive", fixed = "b + a + x"),
  list(id = "empty_cells", fixed = "a * e"),
  list(id = "empty_cells_sum", fixed = "a * e", contrasts = "contr.sum"),
  list(id = "empty_cells_additive", fixed = "a + e + c"),
  list(id = "empty_cells_three_way", fixed = "a * e * c"),
  list(id = "unconnected", fixed = "a * f"),
  list(id = "unconnected_additive", fixed = "a + f"),
  list(id = "three_way", fixed = "a * b * c"),
  list(id = "three_way_sum", fixed = "a * b * c", contrasts = "contr.sum"),
  list(id = "three_way_second_order", fixed = "(a + b + c)^2"),
  list(id = "factor_covariate", fixed = "a * x"),
  list(id = "factor_covariate_sum", fixed = "a * x", contrasts = "contr.sum"),
  list(id = "two_factors_covariate", fixed = "a * c * x"),
  list(id = "two_factors_covariate_sum", fixed = "a * c * x", contrasts = "contr.sum"),
  list(id = "empty_cells_covariate", fixed = "a * e * x"),
  list(id = "factor_two_covariates", fixed = "a * x * z"),
  list(id = "covariates", fixed = "x * z"),
  list(id = "aliased_covariate", fixed = "x + x2 + a"),
  list(id = "aliased_covariate_slopes", fixed = "a * x + x2"),
  list(id = "polynomial", fixed = "a * poly(x, 2)"),
  list(id = "weights", fixed = "a * c + x", weights = "w"),
  list(id = "weights_sum", fixed = "a * c + x", weights = "w", contrasts = "contr.sum"),
  list(id = "no_intercept", fixed = "0 + a"),
  list(id = "no_intercept_covariate", fixed = "0 + a + c + x"),
  list(id = "no_intercept_two_way", fixed = "0 + a * c"),
  list(id = "cells_only", fixed = "a:c"),
  list(id = "nested", fixed = "a + a:c"),
  list(id = "nested_empty", fixed = "a + a:e"),
  list(id = "slopes_only", fixed = "a:x"),
  list(id = "slopes_of_factor", fixed = "a + a:x"),
  list(id = "slopes_of_covariate", fixed = "x + a:x"),
  list(id = "slopes_of_both", fixed = "a * c + a:x"),
  list(id = "nested_twice", fixed = "a + a:c + a:e + a:c:e"),
  list(id = "slopes_twice", fixed = "x + x:a + x:c + x:a:c"),
  list(id = "second_factor_nested", fixed = "c + x + a:c"),
  list(id = "three_way_slopes", fixed = "x + a + x:a:c"),
  list(id = "no_intercept_slopes", fixed = "0 + x * a"),
  list(id = "no_intercept_covariate_first", fixed = "0 + x + a"),
  list(id = "polynomial_covariate", fixed = "poly(x, 2) * z"),
  list(id = "polynomial_two_factors", fixed = "a * c * poly(x, 2)"),
  list(id = "polynomial_sum", fixed = "a * poly(x, 2)", contrasts = "contr.sum"),
  list(id = "unconnected_sum", fixed = "a * f", contrasts = "contr.sum"),
  list(id = "unconnected_three_way", fixed = "a * f * c"),
  list(id = "no_intercept_three_way", fixed = "0 + a * c * x"),
  list(id = "no_intercept_sum", fixed = "0 + a * c", contrasts = "contr.sum"),
  list(id = "nested_sum", fixed = "a + a:c", contrasts = "contr.sum"),
  list(id = "slopes_of_covariate_sum", fixed = "x + a:x", contrasts = "contr.sum"),
  list(id = "no_intercept_covariate_sum", fixed = "0 + a + c + x", contrasts = "contr.sum"),
  list(id = "unconnected_additive_sum", fixed = "a + f", contrasts = "contr.sum"),
  list(id = "unconnected_additive_reversed", fixed = "f + a", contrasts = "contr.helmert"),
  list(id = "empty_cells_three_way_sum", fixed = "a * e * c", contrasts = "contr.helmert"),
  list(id = "missing_margin_sum", fixed = "a + c + a:c:e", contrasts = "contr.sum"),
  list(id = "one_row_in_a_cell", fixed = "a * h * x"),
  list(id = "one_row_in_a_cell_sum", fixed = "a * h * x", contrasts = "contr.sum"),
  list(id = "missing_margin", fixed = "a + c + a:c:e"))

fitted_case <- function(case, reml) {
  factors <- intersect(all.vars(as.formula(paste("~", case$fixed))), c("a", "b", "c", "e", "f", "h"))
  contrasts <- if (!is.null(case$contrasts)) setNames(as.list(rep(case$contrasts, length(factors))), factors)
  control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = .05, rhoend = 1e-10))
  arguments <- list(as.formula(paste("y ~", case$fixed, "+ (1 | g)")), d, REML = reml, control = control, contrasts = contrasts)
  if (!is.null(case$weights)) arguments$weights <- d[[case$weights]]
  suppressMessages(do.call(lmer, arguments))
}

tables <- function(model) setNames(lapply(c("I", "II", "III"), function(type) {
  a <- as.data.frame(anova(model, type = type, ddf = "Satterthwaite"))
  list(row = arr(rownames(a)), NumDF = arr(as.integer(a$NumDF)), DenDF = arr(a$DenDF), `F value` = arr(a$`F value`))
}), c("I", "II", "III"))

out <- lapply(cases, function(case) {
  message(case$id)
  list(case = case$id, fixed = case$fixed, contrasts = case$contrasts, weights = case$weights,
       reml = tables(fitted_case(case, TRUE)), ml = tables(fitted_case(case, FALSE)))
})
columns <- lapply(d, function(v) if (is.factor(v)) list(levels = arr(levels(v)), codes = arr(as.integer(v) - 1L)) else arr(v))
write_json(list(data = columns, cases = out), file.path("golden", "extra.anova.json"))
