# Inference and diagnostics after a fit, by lme4, lmerTest and pbkrtest: the R side of interlace_tasks.py.
# A request is "action method count jobs". The model is fitted once a process, outside the clock,
# with calc.derivs = FALSE, which also makes its refits and profiles quicker.

suppressMessages(library(lme4))

source("benchmarks/peers/common.R")

installed <- function(package) requireNamespace(package, quietly = TRUE)

unsupported <- function(text) {
  stop(structure(class = c("unsupported", "error", "condition"), list(message = text, call = NULL)))
}

needs <- function(package) {
  if (!installed(package)) unsupported(paste(package, "is not installed"))
}

# Names as interlace writes them: the Intercept without parentheses.
plain <- function(names) gsub("(Intercept)", "Intercept", names, fixed = TRUE)

labelled <- function(kind, names, values) {
  setNames(as.list(as.numeric(values)), paste(kind, plain(names)))
}

# The call holds values, not names of this function: lmerTest and profile evaluate it again.
models <- list()
fitted_model <- function(method) {
  if (is.null(models[[method]])) {
    call <- bquote(lmer(.(formula), frame, REML = .(method == "REML"),
                        control = lmerControl(calc.derivs = FALSE)))
    models[[method]] <<- suppressMessages(suppressWarnings(eval(call, globalenv())))
  }
  models[[method]]
}

# ---------------------------------------------------------------- degrees of freedom

satterthwaite <- function(model, count, jobs) {
  needs("lmerTest")
  list(run = function() coef(summary(lmerTest::as_lmerModLmerTest(model))),
       values = function(table) c(labelled("se", rownames(table), table[, "Std. Error"]),
                                  labelled("df", rownames(table), table[, "df"])))
}

kenward_roger <- function(model, count, jobs) {
  needs("pbkrtest")
  names <- names(fixef(model))
  run <- function() {
    adjusted <- pbkrtest::vcovAdj(model)
    contrast <- function(i) as.numeric(seq_along(names) == i)
    df <- sapply(seq_along(names),
                 function(i) pbkrtest::Lb_ddf(contrast(i), vcov(model), adjusted))
    list(se = sqrt(diag(as.matrix(adjusted))), df = df)
  }
  list(run = run, values = function(found) c(labelled("se", names, found$se),
                                             labelled("df", names, found$df)))
}

# ---------------------------------------------------------------- bootstrap and profile

# Standard deviations and correlations of one replicate (beta, theta, sigma), in lme4's order.
deviations <- function(theta, sigma, cnms) {
  values <- numeric(0)
  for (group in names(cnms)) {
    columns <- cnms[[group]]
    k <- length(columns)
    root <- matrix(0, k, k)
    own <- seq_len(k * (k + 1) / 2)
    root[lower.tri(root, diag = TRUE)] <- theta[own]
    theta <- theta[-own]
    covariance <- sigma^2 * tcrossprod(root)
    sd <- sqrt(diag(covariance))
    correlation <- covariance / tcrossprod(sd)
    for (j in seq_len(k)) {
      later <- seq_len(k) > j
      values <- c(values, sd[j], correlation[later, j])
    }
  }
  c(values, sigma)
}

deviation_names <- function(cnms) {
  one <- function(group) {
    columns <- cnms[[group]]
    for_column <- function(j) {
      later <- columns[seq_along(columns) > j]
      correlations <- if (length(later)) paste0("cor_", later, ".", columns[j])
      paste0(c(paste0("sd_", columns[j]), correlations), "|", group)
    }
    unlist(lapply(seq_along(columns), for_column))
  }
  c(unlist(lapply(names(cnms), one)), "sigma")
}

moments <- function(x) {
  x <- x[is.finite(x)]
  centred <- x - mean(x)
  c(mean = mean(x), sd = sd(x), kurtosis = mean(centred^4) / mean(centred^2)^2, count = length(x))
}

bootstrap <- function(model, count, jobs) {
  statistic <- function(m) c(getME(m, "beta"), getME(m, "theta"), sigma(m))
  run <- function() {
    parallel <- if (jobs > 1) "multicore" else "no"
    bootMer(model, statistic, nsim = count, seed = 1, parallel = parallel, ncpus = jobs)$t
  }
  p <- length(fixef(model))
  cnms <- getME(model, "cnms")
  values <- function(t) {
    theta <- (p + 1):(ncol(t) - 1)
    deviation <- apply(t, 1, function(row) deviations(row[theta], row[length(row)], cnms))
    table <- cbind(t[, seq_len(p), drop = FALSE], t(deviation))
    found <- apply(table, 2, moments)
    names <- c(names(fixef(model)), deviation_names(cnms))
    do.call(c, lapply(rownames(found), function(kind) labelled(kind, names, found[kind, ])))
  }
  list(run = run, values = values)
}

profiled <- function(model, count, jobs) {
  names <- c(deviation_names(getME(model, "cnms")), names(fixef(model)))
  list(run = function() confint(profile(model), level = 0.95),
       values = function(limits) c(labelled("lower", names, limits[, 1]),
                                   labelled("upper", names, limits[, 2])))
}

# ---------------------------------------------------------------- prediction

prediction <- function(model, count, jobs) {
  if (!"se.fit" %in% names(formals(getS3method("predict", "merMod")))) {
    unsupported(paste("predict of lme4", packageVersion("lme4"), "gives no standard errors"))
  }
  list(run = function() predict(model, se.fit = TRUE)$se.fit,
       values = function(se) at_rows("se row", se, count))
}

# count values of a vector, evenly spread over its rows, which are numbered from 0.
at_rows <- function(kind, x, count) {
  rows <- round(seq(0, length(x) - 1, length.out = count))
  labelled(kind, rows, x[rows + 1])
}

# ---------------------------------------------------------------- diagnostics

# How the fixed effects change without each row or level, in standard errors of that refit.
changes <- function(found, deleted) {
  part <- function(name) found[[paste0(name, "[-", deleted, "]")]]
  coefficients <- part("fixed.effects")
  errors <- t(sapply(part("vcov"), function(vcov) sqrt(diag(vcov))))
  change <- sweep(coefficients, 2, found$fixed.effects) / errors
  one <- function(name) labelled(paste("without", plain(name)), found$deleted, change[, name])
  do.call(c, lapply(colnames(coefficients), one))
}

influence_rows <- function(model, count, jobs) {
  list(run = function() influence(model), values = function(found) changes(found, "case"))
}

influence_groups <- function(model, count, jobs) {
  group <- names(getME(model, "flist"))[1]
  list(run = function() influence(model, group), values = function(found) changes(found, group))
}

# lme4 has no closed form of the other one-step measures.
one_step <- function(model, count, jobs) {
  list(run = function() hatvalues(model),
       values = function(leverage) at_rows("leverage row", leverage, count))
}

actions <- list(satterthwaite = satterthwaite, `kenward-roger` = kenward_roger,
                bootstrap = bootstrap, profile = profiled, prediction = prediction,
                `influence-rows` = influence_rows, `influence-groups` = influence_groups,
                `one-step` = one_step)

task <- function(request) {
  words <- strsplit(request, " ")[[1]]
  model <- fitted_model(words[2])
  action <- actions[[words[1]]](model, as.integer(words[3]), as.integer(words[4]))
  measured <- measure(action$run)
  c(measured$cost, list(values = action$values(measured$value), scale = sigma(model)^2,
                        covariances = covariances(model)))
}

versions <- sapply(Filter(installed, c("lme4", "lmerTest", "pbkrtest")),
                   function(package) paste(package, packageVersion(package)))
blas <- paste("BLAS", basename(extSoftVersion()[["BLAS"]]))
serve(paste(c(versions, blas), collapse = ", "), task)
