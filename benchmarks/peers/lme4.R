# The worker of lme4: the same protocol as worker.py, in R.
# Settings: derivatives at the optimum are not computed (calc.derivs = FALSE), the quickest
# documented way; LME4_CONTROL=default keeps lme4's defaults.

suppressMessages(library(lme4))

directory <- commandArgs(TRUE)[1]
head <- jsonlite::read_json(file.path(directory, "problem.json"))

read_column <- function(name) {
  labels <- head$columns[[name]]
  file <- file.path(directory, paste0(name, ".bin"))
  if (is.null(labels)) return(readBin(file, "double", head$n))
  codes <- readBin(file, "integer", head$n, size = 4) + 1L
  structure(codes, levels = unlist(labels), class = "factor")
}

send <- function(message) {
  line <- jsonlite::toJSON(message, auto_unbox = TRUE, digits = NA, null = "null")
  cat("@@", line, "\n", sep = "")
  flush(stdout())
}

status_mb <- function(field) {
  if (!file.exists("/proc/self/status")) return(NULL)
  line <- grep(paste0("^", field, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}

reset_peak <- function() {
  if (file.exists("/proc/self/clear_refs")) cat("5", file = "/proc/self/clear_refs")
}

covariances <- function(model) {
  lapply(VarCorr(model), function(cov) matrix(as.numeric(cov), nrow(cov)))
}

fit <- function(method, control) {
  reset_peak()
  before <- status_mb("VmRSS")
  start <- as.numeric(Sys.time())
  model <- suppressMessages(suppressWarnings(
    lmer(formula, frame, REML = method == "REML", control = control)))
  seconds <- as.numeric(Sys.time()) - start
  list(seconds = seconds, peak_mb = status_mb("VmHWM"), before_mb = before,
       criterion = -2 * as.numeric(logLik(model)), scale = sigma(model)^2,
       covariances = covariances(model), evaluations = model@optinfo$feval)
}

columns <- lapply(setNames(nm = names(head$columns)), read_column)
frame <- as.data.frame(columns)
formula <- as.formula(head$formula)
control <- if (Sys.getenv("LME4_CONTROL") == "default") lmerControl() else
  lmerControl(calc.derivs = FALSE)

send(list(version = as.character(packageVersion("lme4"))))
input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1)) > 0) {
  send(tryCatch(fit(trimws(line), control),
                error = function(e) list(error = substr(conditionMessage(e), 1, 300))))
}
