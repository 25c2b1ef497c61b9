# Ordered categories beside ordinal::clmm and emmeans: writes data/soup.csv and golden/ordinal.json.  Rscript make_ordinal.R [case ...]
suppressMessages({ library(ordinal); library(emmeans); library(jsonlite) })
only <- commandArgs(TRUE)
soup <- ordinal::soup[, c("RESP", "PROD", "SURENESS", "DAY", "GENDER", "AGEGROUP")]
names(soup) <- c("resp", "prod", "sure", "day", "gender", "age")
soup$age <- c(24, 36, 46, 58)[as.integer(soup$age)]
soup$resp <- paste0("s", soup$resp); soup$day <- paste0("d", soup$day); soup$sure <- paste0("c", soup$sure)
set.seed(5); soup <- soup[sort(sample(nrow(soup), 1100)), ]
soup$w <- 1 + (seq_len(nrow(soup)) %% 3) / 2
write.csv(soup, "data/soup.csv", row.names = FALSE, quote = FALSE)
read <- function(name) read.csv(file.path("data", paste0(name, ".csv")), stringsAsFactors = TRUE)
wine <- read("wine_x"); soup <- read("soup"); soup$prod <- factor(soup$prod, levels = c("Ref", "Test"))
wine$rating <- ordered(wine$rating); soup$sure <- ordered(soup$sure)
DATA <- list(wine_x = wine, soup = soup)
`%||%` <- function(a, b) if (is.null(a)) b else a
C <- function(data, formula, link, weights = NULL, emm = NULL, R = NULL, golden = NULL) list(data = data, formula = formula, link = link, weights = weights, emm = emm, R = R, golden = golden)
# clmm of this version has "cloglog" and "loglog" exchanged: clm's "cloglog" is 1 - exp(-exp(x)), as here.
cases <- list(
  wine_logit = C("wine_x", "rating ~ temp * contact + (1 | judge)", "logit", emm = c("temp", "contact"), golden = "clmm_wine_logit"),
  wine_probit = C("wine_x", "rating ~ temp + contact + (1 | judge)", "probit", emm = c("temp", "contact"), golden = "clmm_wine_probit"),
  wine_cloglog = C("wine_x", "rating ~ temp + contact + (1 | judge)", "cloglog", emm = "temp", R = "loglog"),
  wine_bottle = C("wine_x", "rating ~ contact + (1 | judge) + (1 | bottle)", "logit"),
  soup_logit = C("soup", "sure ~ prod * day + age + (1 | resp)", "logit", emm = c("prod", "day")),
  soup_probit = C("soup", "sure ~ prod + gender + (1 | resp)", "probit", emm = c("prod", "gender")),
  soup_cloglog = C("soup", "sure ~ prod + day + (1 | resp)", "cloglog", R = "loglog"),
  soup_two_terms = C("soup", "sure ~ prod + age + (1 | resp) + (1 | resp:prod)", "logit"),
  soup_slope = C("soup", "sure ~ prod + day + (1 + prod | resp)", "probit"),
  soup_weights = C("soup", "sure ~ prod + day + (1 | resp)", "logit", weights = "w")
)
MODES <- c("latent", "linear.predictor", "cum.prob", "exc.prob", "prob", "mean.class")
table <- function(e) { s <- as.data.frame(summary(e, infer = c(TRUE, FALSE))); k <- intersect(c("emmean", "prob", "mean.class", "cumprob", "exc.prob", "cum.prob", "excprob"), names(s))[1]; if (is.na(k)) stop(paste(names(s), collapse = " ")); list(labels = lapply(s[intersect(c("temp", "contact", "prod", "day", "gender", "cut", "rating", "sure"), names(s))], as.character), estimate = s[[k]], se = s$SE) }
fit <- function(cs) {
  dat <<- DATA[[cs$data]]
  a <- list(formula = as.formula(cs$formula, env = globalenv()), data = quote(dat), link = cs$R %||% cs$link, Hess = TRUE, control = quote(clmm.control(method = "nlminb", gradTol = 1e-9, maxIter = 200)))
  if (!is.null(cs$weights)) a$weights <- as.name(cs$weights)
  m <- suppressWarnings(eval(as.call(c(quote(ordinal::clmm), a)), globalenv()))
  if (!is.null(cs$golden)) {  # the optimum and its covariance by the implementation of make_glmm_own.R, which are exact
    g <- fromJSON(file.path("golden", paste0(cs$golden, ".json")))$fits$nAGQ_1; own <- unlist(g$estimate)[names(coef(m))]
    V <- matrix(g$vcov$values, length(g$vcov$rows), byrow = TRUE)
    m$coefficients[names(own)] <- own; m$alpha[] <- own[seq_along(m$alpha)]; m$beta[] <- own[-seq_along(m$alpha)]; m$Hessian[] <- solve(V); m$logLik <- g$logLik }
  se <- sqrt(diag(vcov(m)))[seq_along(coef(m))]
  out <- list(formula = cs$formula, data = cs$data, link = cs$link, weights = cs$weights, logLik = as.numeric(logLik(m)), npar = attr(logLik(m), "df"), coefficients = as.list(coef(m)), se = as.list(setNames(se, names(coef(m)))), gradient = max(abs(m$gradient)),
    random = lapply(VarCorr(m), function(v) I(unname(attr(v, "stddev")))))
  if (!is.null(cs$emm)) for (mode in MODES) {
    response <- all.vars(as.formula(cs$formula))[1]
    extra <- if (mode %in% c("linear.predictor", "cum.prob", "exc.prob")) "cut" else if (mode == "prob") response else NULL
    out$emmeans[[mode]] <- list(all = table(emmeans(m, c(cs$emm, extra), mode = mode)), first = table(emmeans(m, c(cs$emm[1], extra), mode = mode)))
  }
  if (!is.null(cs$emm)) { out$joint <- as.list(as.data.frame(joint_tests(m))); a <- emmeans(m, cs$emm[1], mode = "latent"); out$pairs <- as.list(as.data.frame(pairs(a))) }
  out
}
path <- "golden/ordinal.json"
found <- if (file.exists(path)) fromJSON(path, simplifyVector = FALSE) else list()
versions <- list(R = R.version.string, ordinal = as.character(packageVersion("ordinal")), emmeans = as.character(packageVersion("emmeans")))
for (id in names(cases)) if (!length(only) || id %in% only) {
  t0 <- proc.time()[[3]]; r <- tryCatch(fit(cases[[id]]), error = function(e) { message(id, ": ", conditionMessage(e)); NULL })
  if (!is.null(r)) { found[[id]] <- r; write(toJSON(found, auto_unbox = TRUE, digits = 15, null = "null", na = "null"), path); message(sprintf("%s %.6f gradient %.1e, %.1f s", id, -2 * r$logLik, r$gradient, proc.time()[[3]] - t0)) }
}
write(toJSON(c(found[setdiff(names(found), "versions")], list(versions = versions)), auto_unbox = TRUE, digits = 15, null = "null", na = "null"), path)
