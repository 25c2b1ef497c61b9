# The worker of lme4: the same protocol as worker.py, in R.
# Settings: derivatives at the optimum are not computed (calc.derivs = FALSE), the quickest
# documented way; LME4_CONTROL=default keeps lme4's defaults.

suppressMessages(library(lme4))

source("benchmarks/peers/common.R")

fit <- function(method, control) {
  measured <- measure(function() lmer(formula, frame, REML = method == "REML", control = control))
  model <- measured$value
  c(measured$cost,
    list(criterion = -2 * as.numeric(logLik(model)), scale = sigma(model)^2,
         covariances = covariances(model), evaluations = model@optinfo$feval))
}

control <- if (Sys.getenv("LME4_CONTROL") == "default") lmerControl() else
  lmerControl(calc.derivs = FALSE)

serve(as.character(packageVersion("lme4")), function(line) fit(line, control))
