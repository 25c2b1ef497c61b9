# -2 log-likelihoods of random generalised models by glmmTMB, and by lme4 where the link is canonical.
#
#   python write_random_glmms.py DIRECTORY   # data of every seed, and models.json
#   Rscript random_glmms.R DIRECTORY random_glmms.json

suppressMessages(suppressWarnings({library(lme4); library(glmmTMB); library(jsonlite)}))

arguments <- commandArgs(TRUE)
directory <- arguments[1]
models <- read_json(file.path(directory, "models.json"))

family_of <- function(name, link) switch(name,
  binomial = binomial(link), poisson = poisson(link), `negative-binomial` = nbinom2(link),
  nbinom1 = nbinom1(link), gamma = Gamma(link), beta = beta_family(link))

canonical <- function(m) paste(m$family, m$link) %in% c("binomial logit", "poisson log")

value <- function(run) {
  fitted <- tryCatch(suppressMessages(suppressWarnings(run())), error = function(e) NULL)
  if (is.null(fitted)) return(NA)
  found <- tryCatch(-2 * as.numeric(logLik(fitted)), error = function(e) NA)
  # glmmTMB reports no log-likelihood where its Hessian is singular; the objective is still there.
  if (is.na(found) && inherits(fitted, "glmmTMB")) 2 * fitted$fit$objective else found
}

one <- function(m) {
  d <- read.csv(file.path(directory, paste0(m$seed, ".csv")))
  for (name in c("g", "h", "i")) d[[name]] <- factor(d[[name]])
  text <- gsub("(1 + x || g)", "diag(1 + x | g)", m$formula, fixed = TRUE)
  if (nzchar(m$trials)) text <- sub("^y", "cbind(y, size - y)", text)
  tmb <- value(function() glmmTMB(as.formula(text), d, family_of(m$family, m$link)))
  lme4 <- NA
  if (canonical(m)) {
    text <- gsub("diag(1 + x | g)", "(1 | g) + (0 + x | g)", text, fixed = TRUE)
    lme4 <- value(function() glmer(as.formula(text), d, family_of(m$family, m$link)))
  }
  list(seed = m$seed, total = m$total, glmmTMB = tmb, lme4 = lme4)
}

versions <- list(glmmTMB = as.character(packageVersion("glmmTMB")),
                 lme4 = as.character(packageVersion("lme4")))
writeLines(toJSON(list(versions = versions, models = lapply(models, one)), auto_unbox = TRUE,
                  digits = NA, na = "null", pretty = TRUE), arguments[2])
