# Rscript repeated.R nlme|glmmTMB trial.csv: seconds of one fit, and minus twice the log-likelihood.
arguments <- commandArgs(TRUE)
d <- read.csv(arguments[2])
d$arm <- factor(d$arm)
d$v <- d$visit + 1L
d$visit <- factor(d$visit)
d$id <- factor(d$id)
if (arguments[1] == "nlme") {
  suppressMessages(library(nlme))
  run <- function() gls(y ~ base + arm * visit, d, corSymm(form = ~ v | id), varIdent(form = ~ 1 | visit))
} else {
  suppressMessages(library(glmmTMB))
  run <- function() glmmTMB(y ~ base + arm * visit + us(0 + visit | id), d, REML = TRUE, dispformula = ~ 0)
}
time <- system.time(m <- run())
cat(sum(time[1:2]), format(as.numeric(-2 * logLik(m)), nsmall = 4, digits = 12), "\n")
