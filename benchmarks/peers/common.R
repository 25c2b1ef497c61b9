# What the R workers share: the stored problem, and the protocol of worker.py. The working
# directory is that of the repository.

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

# The value of run(), the seconds it took, and memory as worker.py reports it.
measure <- function(run) {
  earlier <- status_mb("VmHWM")
  reset_peak()
  before <- status_mb("VmRSS")
  start <- as.numeric(Sys.time())
  used <- sum(proc.time()[1:2])
  value <- suppressMessages(suppressWarnings(run()))
  seconds <- as.numeric(Sys.time()) - start
  cpu <- sum(proc.time()[1:2]) - used
  peak <- status_mb("VmHWM")
  process <- if (!is.null(peak)) max(earlier, peak)
  list(value = value, cost = list(seconds = seconds, cpu_seconds = cpu, peak_mb = peak, before_mb = before,
                                  process_mb = process))
}

covariances <- function(model) {
  lapply(VarCorr(model), function(cov) matrix(as.numeric(cov), nrow(cov)))
}

columns <- lapply(setNames(nm = names(head$columns)), read_column)
frame <- as.data.frame(columns)
formula <- as.formula(head$formula)

serve <- function(version, answer) {
  send(list(version = version))
  input <- file("stdin", "r")
  while (length(line <- readLines(input, n = 1)) > 0) {
    send(tryCatch(answer(trimws(line)),
                  unsupported = function(e) list(unsupported = conditionMessage(e)),
                  error = function(e) list(error = substr(conditionMessage(e), 1, 300),
                                           process_mb = status_mb("VmHWM"))))
  }
}
