# Contrasts and adjustments of R's emmeans by all of its names, and means of nested factors:
#   Rscript make_methods.R
# reads data/methods.csv and data/nested.csv, and writes golden/methods.json.
suppressMessages({library(lmerTest); library(emmeans); library(jsonlite)})
emm_options(msg.interaction = FALSE, msg.nesting = FALSE)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-9))
read <- function(name) read.csv(file.path("data", name), stringsAsFactors = TRUE)
methods <- read("methods.csv")
nested <- read("nested.csv")
simple <- lmer(y ~ a + b + (1 | g), methods, control = control)
within <- lmer(y ~ st / q + b + (1 | g), nested, control = control)

row <- function(x) as.list(as.data.frame(x))
contrasts <- function(model, specs, method, adjust) {
  means <- emmeans(model, as.formula(specs), lmer.df = "satterthwaite")
  table <- summary(contrast(means, method), infer = c(TRUE, TRUE), adjust = adjust)
  list(specs = specs, method = method, adjust = adjust, contrasts = row(table))
}
out <- list(
  R = R.version.string, emmeans = as.character(packageVersion("emmeans")),
  methods = list(
    contrasts(simple, "~ a", "revpairwise", "tukey"),
    contrasts(simple, "~ a", "trt.vs.ctrlk", "holm"),
    contrasts(simple, "~ a", "del.eff", "fdr"),
    contrasts(simple, "~ a", "mean_chg", "none"),
    contrasts(simple, "~ a", "identity", "none"),
    contrasts(simple, "~ a", "pairwise", "scheffe"),
    contrasts(simple, "~ a * b", "pairwise", "scheffe"),
    contrasts(simple, "~ a | b", "pairwise", "scheffe"),
    contrasts(simple, "~ a", "pairwise", "hochberg"),
    contrasts(simple, "~ a", "pairwise", "hommel"),
    contrasts(simple, "~ a * b", "pairwise", "hommel"),
    contrasts(simple, "~ a", "pairwise", "BY"),
    contrasts(simple, "~ a", "eff", "fdr"),
    contrasts(simple, "~ a", "consec", "holm")
  ),
  nested = lapply(c("~ st", "~ q", "~ q * b", "~ b", "~ st * b", "~ st | b"), function(specs) {
    means <- emmeans(within, as.formula(specs), lmer.df = "satterthwaite")
    pairs <- summary(pairs(means), infer = c(TRUE, TRUE), adjust = "holm")
    list(specs = specs, means = row(means), contrasts = row(pairs))
  }),
  joint = row(joint_tests(within, lmer.df = "satterthwaite"))
)
write(toJSON(out, digits = 15, na = "null", auto_unbox = TRUE), "golden/methods.json")
