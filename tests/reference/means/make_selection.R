# conditional AIC, collinearity, step.  Rscript make_selection.R [case ...]
source("../ref_common.R"); source("ref_lmm.R"); suppressMessages({ library(cAIC4); library(performance) })
only <- commandArgs(TRUE); go <- function(id, ...) if (!length(only) || id %in% only) sel_case(id, ...)
go("sel_sleepstudy", "sleepstudy_s", "Reaction ~ Days + stratum + (Days | Subject)", "random slope; collinear stratum")
go("sel_exam", "exam22", "normexam ~ standLRT + sex + type + (1 | school)", "random intercept, unbalanced")
go("sel_threeway", "threeway", "y ~ arm * item * time + age + (1 | id)", "three-way factorial with covariate (step removes interactions)")
go("sel_insteval", "insteval_sub", "y ~ service + studage + lect + (1 | s) + (1 | d)", "crossed random effects", caic = TRUE)
