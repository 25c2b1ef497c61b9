# Helper functions used by generate.R to produce the reference values.
# Usage and conventions: see README.md in this directory.
Sys.setenv(OPENBLAS_NUM_THREADS = "1", OMP_NUM_THREADS = "1")
suppressPackageStartupMessages({
  library(Matrix); library(lme4)
})
options(warn = 1, contrasts = c("contr.treatment", "contr.poly"))

## ---------------------------------------------------------------- JSON out
.num <- function(x) {
  s <- sprintf("%.15g", x)
  bad <- is.finite(x); bad[bad] <- as.numeric(s[bad]) != x[bad]
  s[bad] <- sprintf("%.17g", x[bad])
  s[!is.finite(x)] <- "null"
  s
}
.esc <- function(s) {
  out <- ifelse(is.na(s), "null", paste0("\"", gsub("\n", "\\\\n", gsub("\"", "\\\\\"",
         gsub("\\\\", "\\\\\\\\", enc2utf8(s)))), "\""))
  out
}
arr <- function(x) { class(x) <- c("jarr"); x }       # force array for length-1
js <- function(x, ind = 0) {
  force_arr <- inherits(x, "jarr"); if (force_arr) x <- unclass(x)
  if (is.null(x)) return("null")
  if (is.factor(x)) x <- as.character(x)
  if (is.data.frame(x)) {
    cols <- lapply(x, function(v) arr(if (is.factor(v)) as.character(v) else unname(v)))
    return(js(cols, ind))
  }
  if (is.matrix(x) || inherits(x, "Matrix")) {
    x <- as.matrix(x)
    o <- list()
    if (!is.null(rownames(x))) o$rows <- arr(rownames(x))
    if (!is.null(colnames(x))) o$cols <- arr(colnames(x))
    o$values <- lapply(seq_len(nrow(x)), function(i) arr(unname(x[i, ])))
    return(js(o, ind))
  }
  pad <- strrep(" ", ind + 1)
  if (is.list(x)) {
    if (length(x) == 0) return(if (is.null(names(x))) "[]" else "{}")
    vals <- vapply(x, js, "", ind = ind + 1)
    if (!is.null(names(x)))
      return(paste0("{\n", pad, paste0(.esc(names(x)), ": ", vals, collapse = paste0(",\n", pad)),
                    "\n", strrep(" ", ind), "}"))
    return(paste0("[", paste(vals, collapse = ", "), "]"))
  }
  nm <- names(x)
  v <- if (is.logical(x)) ifelse(is.na(x), "null", ifelse(x, "true", "false"))
       else if (is.integer(x)) ifelse(is.na(x), "null", sprintf("%d", x))
       else if (is.numeric(x)) .num(as.numeric(x))
       else .esc(as.character(x))
  if (!is.null(nm) && !force_arr) return(paste0("{", paste0(.esc(nm), ": ", v, collapse = ", "), "}"))
  if (length(v) == 1 && !force_arr) return(v)
  paste0("[", paste(v, collapse = ", "), "]")
}
write_json <- function(x, path) { writeLines(js(x), path, useBytes = TRUE); invisible(path) }

## ---------------------------------------------------------------- misc
LOG <- new.env(); LOG$notes <- character()
note <- function(...) { LOG$notes <- c(LOG$notes, paste0(...)); message("  note: ", ...) }
attempt <- function(label, expr, limit = 180) {
  on.exit(setTimeLimit(elapsed = Inf, transient = FALSE))
  setTimeLimit(elapsed = limit, transient = TRUE)
  tryCatch(suppressWarnings(suppressMessages(expr)),
           error = function(e) { note(label, ": not produced (", conditionMessage(e), ")"); NULL })
}
tab <- function(m) {                       # matrix/data.frame -> column arrays + row names
  if (is.null(m)) return(NULL)
  d <- as.data.frame(m, optional = TRUE)
  rn <- rownames(d)
  c(list(row = arr(trimws(rn))), lapply(d, function(v) arr(unname(if (is.factor(v)) as.character(v) else v))))
}

## ---------------------------------------------------------------- data store
write_data <- function(d, name, root, gz = FALSE) {
  f <- file.path(root, "data", paste0(name, ".csv", if (gz) ".gz" else ""))
  sch <- lapply(d, function(v) {
    if (is.factor(v) && nlevels(v) <= 200) list(type = "factor", levels = arr(levels(v)))
    else if (is.factor(v)) list(type = "factor")
    else list(type = if (is.integer(v)) "integer" else if (is.numeric(v)) "numeric" else "string")
  })
  fmt <- as.data.frame(lapply(d, function(v)
    if (is.factor(v)) as.character(v) else if (is.numeric(v) && !is.integer(v)) .num(v) else as.character(v)),
    check.names = FALSE)
  con <- if (gz) gzfile(f, "w", compression = 9) else file(f, "w")
  write.table(fmt, con, sep = ",", row.names = FALSE, quote = FALSE); close(con)
  c(list(file = paste0("data/", basename(f)), rows = nrow(d)), list(columns = sch))
}
read_data <- function(meta, root) {
  d <- read.csv(file.path(root, meta$file), colClasses = "character", check.names = FALSE)
  for (k in names(d)) {
    s <- meta$columns[[k]]
    d[[k]] <- switch(s$type, factor = factor(d[[k]], levels = if (is.null(s$levels)) unique(d[[k]]) else unclass(s$levels)),
                     integer = as.integer(d[[k]]), numeric = as.numeric(d[[k]]), d[[k]])
  }
  d
}
plainf <- function(d) {                    # unordered plain factors, plain data.frame
  d <- as.data.frame(d); class(d) <- "data.frame"
  attr(d, "formula") <- NULL
  for (k in names(d)) if (is.factor(d[[k]])) d[[k]] <- factor(as.character(d[[k]]), levels = levels(droplevels(d[[k]])))
  rownames(d) <- NULL
  d
}

## ---------------------------------------------------------------- tight LMM fits
ctl_tight <- lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE, check.conv.singular = "ignore",
  check.rankX = "message+drop.cols",
  optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-10, ftol_abs = 1e-12, xtol_rel = 1e-12,
                 ftol_rel = 1e-15, maxeval = 20000))
ctl_bobyqa <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore",
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 50000))
ctl_none <- lmerControl(optimizer = NULL, calc.derivs = FALSE, check.conv.singular = "ignore",
  check.conv.grad = "ignore", check.conv.hess = "ignore")

rgrad <- function(f, x, free = seq_along(x)) {       # central differences + Richardson, O(h^8)
  g <- numeric(length(x))
  for (i in free) {
    h <- 0.02 * max(abs(x[i]), 0.1); e <- replace(numeric(length(x)), i, 1)
    D <- vapply(0:3, function(k) { hk <- h / 2^k; (f(x + hk * e) - f(x - hk * e)) / (2 * hk) }, 0)
    for (m in 1:3) D <- (4^m * D[-1] - D[-length(D)]) / (4^m - 1)
    g[i] <- D
  }
  g
}
chess <- function(f, x, free) {
  p <- length(free); H <- matrix(0, p, p); h <- 1e-3 * pmax(abs(x[free]), 0.1); f0 <- f(x)
  E <- function(i, s) { y <- x; y[free[i]] <- y[free[i]] + s * h[i]; y }
  for (i in seq_len(p)) {
    H[i, i] <- (f(E(i, 1)) - 2 * f0 + f(E(i, -1))) / h[i]^2
    for (j in seq_len(i - 1)) {
      sh <- function(a, b) { y <- x; y[free[i]] <- y[free[i]] + a * h[i]; y[free[j]] <- y[free[j]] + b * h[j]; f(y) }
      H[i, j] <- H[j, i] <- (sh(1, 1) - sh(1, -1) - sh(-1, 1) + sh(-1, -1)) / (4 * h[i] * h[j])
    }
  }
  H
}
newton_polish <- function(f, x, lower, maxit = 6, tol = 1e-11) {
  fx <- f(x)
  for (i in which(lower == 0 & abs(x) < 5e-3)) {
    y <- replace(x, i, 0); fy <- f(y)
    if (fy <= fx + 1e-7) { x <- y; fx <- fy }
  }
  free <- setdiff(seq_along(x), which(lower == 0 & x == 0))
  if (length(free)) {
    H <- chess(f, x, free); ev <- eigen(H, symmetric = TRUE)
    ok <- ev$values > 1e-6 * max(ev$values)
    Hi <- ev$vectors[, ok, drop = FALSE] %*% (t(ev$vectors[, ok, drop = FALSE]) / ev$values[ok])
    for (it in seq_len(maxit)) {
      g <- rgrad(f, x, free)[free]
      st <- -as.vector(Hi %*% g); y <- x; y[free] <- y[free] + st; fy <- f(y)
      if (!is.finite(fy) || fy > fx + 1e-9 * max(1, abs(fx) * 1e-3)) break
      x <- y; fx <- fy
      if (max(abs(st)) < tol) break
    }
  }
  g <- rgrad(f, x, free)
  invisible(f(x))
  list(x = x, fval = fx, maxgrad = if (length(free)) max(abs(g[free])) else 0, free = free)
}
# build an lmer call in the global environment on data frame `dat`
lmer_call <- function(case, REML, control, start = NULL, fun = quote(lme4::lmer), formula = case$formula) {
  cl <- as.call(list(fun, formula = as.formula(formula, env = globalenv()), data = quote(dat), REML = REML))
  if (!is.null(case$weights)) cl$weights <- as.name(case$weights)
  if (!is.null(control)) cl$control <- control
  if (!is.null(start)) cl$start <- start
  cl
}
fit_case <- function(case, REML, formula = case$formula, full = TRUE) {
  q <- function(e) suppressWarnings(suppressMessages(e))
  f1 <- q(eval(lmer_call(case, REML, quote(ctl_tight), formula = formula), globalenv()))
  f2 <- if (full) q(eval(lmer_call(case, REML, quote(ctl_bobyqa), formula = formula), globalenv()))
  cl <- lmer_call(case, REML, quote(ctl_tight), formula = formula); cl$devFunOnly <- TRUE
  devf <- q(eval(cl, globalenv()))
  best <- if (full && deviance0(f2) < deviance0(f1)) f2 else f1
  pol <- newton_polish(devf, getME(best, "theta"), getME(best, "lower"))
  lo <- getME(best, "lower")
  if (any(lo == 0 & pol$x < 0.02)) for (s0 in c(0.2, 0.7)) {        # leave a possible saddle at theta = 0
    o <- q(optimizeLmer(devf, optimizer = "bobyqa", start = ifelse(lo == 0, pmax(pol$x, s0), pol$x), calc.derivs = FALSE,
           control = list(rhobeg = 0.1, rhoend = 1e-9, maxfun = 50000)))
    if (o$fval < pol$fval - 1e-8) { note("boundary restart improved the objective by ", signif(pol$fval - o$fval, 3)); pol <- newton_polish(devf, o$par, lo) }
  }
  fm <- q(eval(lmer_call(case, REML, quote(ctl_none), start = unname(pol$x), formula = formula), globalenv()))
  fm@call <- lmer_call(case, REML, quote(ctl_tight), formula = formula)
  fm@optinfo <- f1@optinfo
  obj <- c(nloptwrap_bobyqa = deviance0(f1), minqa_bobyqa = if (full) deviance0(f2) else NA, newton_polished = deviance0(fm))
  list(fm = fm, objectives = obj, maxgrad = pol$maxgrad, conv = f1@optinfo$conv$opt,
       theta_gap = if (full) max(abs(getME(f1, "theta") - getME(fm, "theta"))) else NA)
}
deviance0 <- function(m) { d <- m@devcomp; unname(if (d$dims[["REML"]] > 0) d$cmp[["REML"]] else d$cmp[["dev"]]) }

varcorr_list <- function(fm) {
  vc <- VarCorr(fm); g <- names(fm@cnms)
  lapply(seq_along(vc), function(i) {
    m <- vc[[i]]; nm <- rownames(m)
    cr <- attr(m, "correlation"); S <- matrix(as.vector(m), nrow(m))
    list(group = g[i], terms = arr(nm), sd = arr(unname(attr(m, "stddev"))),
         corr = lapply(seq_len(nrow(m)), function(k) arr(unname(cr[k, ]))),
         cov = lapply(seq_len(nrow(m)), function(k) arr(unname(S[k, ]))))
  })
}
make_newdata <- function(case, d) {
  n <- nrow(d); vars <- setdiff(intersect(all.vars(as.formula(case$formula)), names(d)), all.vars(as.formula(case$formula)[[2]]))
  idx <- unique(round(seq(1, n, length.out = 4)))
  nd <- d[idx[c(1, 2, 3, 4, 1, 2)], vars, drop = FALSE]; rownames(nd) <- NULL
  for (v in vars) {
    if (v %in% case$newvars) nd[[v]] <- as.character(nd[[v]])
    else if (is.numeric(d[[v]])) {
      s <- signif(sd(d[[v]]) / 4, 2); nd[[v]] <- as.numeric(nd[[v]])
      nd[[v]][2] <- nd[[v]][2] + s; nd[[v]][3] <- nd[[v]][3] - s; nd[[v]][6] <- nd[[v]][6] + 2 * s
    }
  }
  nd[[case$newvars[1]]][5] <- "NEW_A"
  for (v in case$newvars) nd[[v]][6] <- "NEW_B"
  nd
}
core_method <- function(case, REML, d) {
  r <- fit_case(case, REML); fm <- r$fm
  assign(if (REML) "FM_REML" else "FM_ML", fm, envir = globalenv())
  b <- fixef(fm); V <- as.matrix(vcov(fm)); se <- sqrt(diag(V))
  n <- nobs(fm); sub <- if (n > 5000) as.integer(seq(1, n, by = ceiling(n / 400))) else NULL
  S <- function(x) arr(unname(if (is.null(sub)) x else x[sub]))
  ll <- logLik(fm)
  nd <- make_newdata(case, d)
  bars <- vapply(findbars(as.formula(case$formula)), function(e) paste0("(", paste(deparse(e), collapse = ""), ")"), "")
  pr <- list(newdata = nd,
    re_form_NULL = arr(unname(predict(fm, nd, re.form = NULL, allow.new.levels = TRUE))),
    re_form_NA = arr(unname(predict(fm, nd, re.form = NA))),
    partial = if (length(bars) > 1) setNames(lapply(bars, function(s) attempt(paste("predict re.form ~", s),
      arr(unname(predict(fm, nd, re.form = as.formula(paste("~", s)), allow.new.levels = TRUE))))), bars))
  re <- attempt("ranef condVar", as.data.frame(ranef(fm, condVar = TRUE)))
  if (is.null(re)) re <- { z <- as.data.frame(ranef(fm, condVar = FALSE)); z$condsd <- NA_real_; z }
  cc <- NULL
  if (max(ngrps(fm)) <= 60) {
    rr <- ranef(fm, condVar = TRUE)
    cc <- attempt("postVar", setNames(lapply(names(rr), function(g) { pv <- attr(rr[[g]], "postVar")
      if (is.list(pv) || dim(pv)[1] == 1) return(NULL)
      setNames(lapply(seq_len(dim(pv)[3]), function(j) lapply(seq_len(dim(pv)[1]), function(k) arr(pv[k, , j]))), rownames(rr[[g]])) }), names(rr)))
  }
  tt <- vapply(1:3, function(i) system.time(suppressWarnings(suppressMessages(
        eval(lmer_call(case, REML, NULL), globalenv()))))[["elapsed"]], 0)
  th <- getME(fm, "theta")
  out <- list(method = if (REML) "REML" else "ML",
    fixef = b, se = se, t = b / se, vcov = V, theta = th, sigma = sigma(fm), varcorr = varcorr_list(fm),
    objective = deviance0(fm), logLik = as.numeric(ll), npar = as.integer(attr(ll, "df")),
    deviance_ml_at_estimate = as.numeric(deviance(fm, REML = FALSE)),
    AIC = AIC(fm), BIC = BIC(fm), df_residual = as.integer(df.residual(fm)),
    r2_formula = local({ vf <- var(as.vector(getME(fm, "X") %*% b)); vr <- sigma(fm)^2 * sum((getME(fm, "Lambdat") %*% getME(fm, "Zt"))^2) / n; v <- vf + vr + sigma(fm)^2
      list(var_fixed = vf, var_random = vr, var_residual = sigma(fm)^2, marginal = vf / v, conditional = (vf + vr) / v, icc_adjusted = vr / (vr + sigma(fm)^2)) }),
    is_singular = isSingular(fm), conv_code = as.integer(r$conv),
    optimizer_objectives = r$objectives, objective_gap = unname(max(r$objectives) - min(r$objectives)),
    theta_gap_nlopt_vs_polished = r$theta_gap, max_abs_gradient_theta = r$maxgrad,
    ranef = list(grpvar = arr(as.character(re$grpvar)), term = arr(as.character(re$term)), grp = arr(as.character(re$grp)),
                 mode = arr(re$condval), cond_sd = arr(re$condsd)),
    ranef_cond_cov = cc, obs_index_1based = if (is.null(sub)) NULL else arr(sub),
    fitted = S(fitted(fm)), fitted_fixed_only = S(predict(fm, re.form = NA)),
    resid_response = S(residuals(fm, "response")), resid_pearson = S(residuals(fm, "pearson")),
    resid_scaled = S(residuals(fm, "pearson", scaled = TRUE)),
    fitted_sum = sum(fitted(fm)), resid_sumsq = sum(residuals(fm, "response")^2),
    predict = pr, fit_seconds = median(tt))
  out
}
case_meta <- function(case, meta, d, fm) {
  X <- getME(fm, "X")
  list(case = case$id, description = case$desc, data_file = meta$file, formula = case$formula,
    weights = case$weights, offset = case$offset, n = nobs(fm), n_groups = setNames(as.integer(ngrps(fm)), names(ngrps(fm))),
    fixed_columns = arr(colnames(X)), dropped_columns = arr(as.character(names(attr(X, "col.dropped")))),
    contrasts = lapply(attr(X, "contrasts"), function(k) if (is.character(k)) k else "matrix"),
    X_first_row = arr(unname(X[1, ])),
    na_rows_dropped = as.integer(nrow(d) - nobs(fm)))
}
run_core <- function(case, meta, root) {
  message("core ", case$id); LOG$notes <- character(); t0 <- proc.time()[[3]]
  d <- read_data(meta, root); if (!is.null(case$prep)) d <- case$prep(d)
  assign("dat", d, envir = globalenv())
  R <- core_method(case, TRUE, d); M <- core_method(case, FALSE, d)
  out <- c(case_meta(case, meta, d, FM_REML), list(reml = R, ml = M, notes = arr(LOG$notes)))
  write_json(out, file.path(root, "golden", paste0(case$id, ".core.json")))
  message(sprintf("  done %.1fs gap %.2e/%.2e grad %.1e/%.1e sing %s", proc.time()[[3]] - t0, R$objective_gap, M$objective_gap,
     R$max_abs_gradient_theta, M$max_abs_gradient_theta, R$is_singular))
}
# Timings on an otherwise idle machine, one BLAS thread (set OPENBLAS_NUM_THREADS=1 in the environment before R starts)
run_timing <- function(case, meta, root) {
  d <- read_data(meta, root); if (!is.null(case$prep)) d <- case$prep(d); assign("dat", d, envir = globalenv())
  tm <- vapply(c(TRUE, FALSE), function(R) median(vapply(1:3, function(i) { gc(FALSE); system.time(suppressWarnings(suppressMessages(
          eval(lmer_call(case, R, NULL), globalenv()))))[["elapsed"]] }, 0)), 0)
  f <- file.path(root, "golden", paste0(case$id, ".core.json")); L <- readLines(f); k <- grep("\"fit_seconds\": ", L); stopifnot(length(k) == 2)
  for (i in 1:2) L[k[i]] <- sub("\"fit_seconds\": [0-9.e+-]+", paste0("\"fit_seconds\": ", sprintf("%.3f", tm[i])), L[k[i]])
  writeLines(L, f, useBytes = TRUE); message("timing ", case$id, " ", paste(tm, collapse = " "))
}
