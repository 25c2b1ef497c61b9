# The workers of glmer and glmmTMB: the same protocol as worker.py, in R. Standard errors are part
# of what is timed, as these packages compute them by default.

peer <- Sys.getenv("PEER")
suppressMessages(suppressWarnings({
  library(lme4)
  if (peer == "glmmtmb") library(glmmTMB)
}))

source("benchmarks/peers/common.R")

family <- switch(head$family, binomial = binomial(), poisson = poisson())
if (nzchar(head$trials)) {
  failures <- paste0("cbind(", head$response, ", ", head$trials, " - ", head$response, ")")
  formula <- as.formula(sub("^[^~]*", failures, head$formula))
}

run <- function() {
  if (peer == "glmmtmb") return(glmmTMB(formula, frame, family = family))
  control <- if (peer == "glmer_nloptwrap") glmerControl(optimizer = "nloptwrap") else glmerControl()
  glmer(formula, frame, family = family, control = control)
}

fit <- function(method) {
  measured <- measure(run)
  model <- measured$value
  parts <- if (peer == "glmmtmb") VarCorr(model)$cond else VarCorr(model)
  found <- lapply(parts, function(cov) matrix(as.numeric(cov), nrow(cov)))
  evaluations <- if (peer == "glmmtmb") sum(model$fit$evaluations) else model@optinfo$feval
  c(measured$cost,
    list(criterion = -2 * as.numeric(logLik(model)), scale = 0, covariances = found,
         evaluations = evaluations))
}

version <- packageVersion(if (peer == "glmmtmb") "glmmTMB" else "lme4")
serve(as.character(version), fit)
