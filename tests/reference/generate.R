# Regenerates the reference values.   Rscript generate.R STAGE [case ...]
#   STAGE: data | core | timing | all
# Run in this directory (first: python3 make_exam.py).
source("golden_lib.R")
root <- "."
args <- commandArgs(TRUE); stage <- if (length(args)) args[1] else "all"; only <- args[-1]

## ------------------------------------------------------------------ data
make_data <- function() {
  M <- list()
  add <- function(d, name, gz = FALSE) M[[name]] <<- write_data(d, name, root, gz)
  ss <- plainf(lme4::sleepstudy)
  ss$w <- rep(c(1, 2, 0.5, 1.5, 3), length.out = nrow(ss))
  ss$off <- round(10 * sin(ss$Days) + (seq_len(nrow(ss)) %% 3), 4)
  add(ss, "sleepstudy")
  add(plainf(lme4::Penicillin), "penicillin")
  add(plainf(lme4::Pastes), "pastes")
  add(plainf(lme4::Dyestuff), "dyestuff")
  add(plainf(lme4::Dyestuff2), "dyestuff2")
  add(plainf(lme4::cake), "cake")
  add(plainf(nlme::Machines), "machines")
  add(plainf(nlme::Orthodont), "orthodont")
  ie <- plainf(lme4::InstEval)
  add(ie, "insteval", gz = TRUE)
  for (nm in c("exam", "exam_effects")) {
    e <- read.csv(file.path("data", paste0(nm, ".csv")), colClasses = "character")
    for (k in 1:3) e[[k]] <- as.numeric(e[[k]])
    e$student_id <- factor(e$student_id, levels = paste0("s", 1:30))
    e$school_id <- factor(e$school_id, levels = paste0("sch", 1:10))
    M[[nm]] <- list(file = paste0("data/", nm, ".csv"), rows = nrow(e), columns = lapply(e, function(v)
      if (is.factor(v)) list(type = "factor", levels = arr(levels(v))) else list(type = "numeric")))
  }
  write_json(M, file.path(root, "data", "schema.json"))
  invisible(M)
}
schema <- function() {
  x <- jsonlite::fromJSON(file.path(root, "data", "schema.json"), simplifyVector = FALSE)
  lapply(x, function(m) { m$columns <- lapply(m$columns, function(s) { if (!is.null(s$levels)) s$levels <- unlist(s$levels); s }); m })
}

## ------------------------------------------------------------------ LMM cases
C <- function(id, data, formula, newvars, reduced = NULL, ...)
  list(id = id, data = data, formula = formula, newvars = newvars, reduced = reduced, ...)
cases <- list(
  C("sleepstudy_slope", "sleepstudy", "Reaction ~ Days + (Days | Subject)", "Subject", "Reaction ~ 1 + (Days | Subject)", desc = "correlated random intercept and slope"),
  C("sleepstudy_uncorr", "sleepstudy", "Reaction ~ Days + (Days || Subject)", "Subject", "Reaction ~ 1 + (Days || Subject)", desc = "uncorrelated random intercept and slope"),
  C("sleepstudy_int", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "Subject", "Reaction ~ 1 + (1 | Subject)", desc = "random intercept"),
  C("penicillin", "penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", c("plate", "sample"), "diameter ~ 1 + (1 | plate)", desc = "balanced crossed intercepts"),
  C("pastes", "pastes", "strength ~ 1 + (1 | batch/cask)", c("cask", "batch"), "strength ~ 1 + (1 | batch)", desc = "nested intercepts"),
  C("dyestuff", "dyestuff", "Yield ~ 1 + (1 | Batch)", "Batch", NULL, desc = "one-way"),
  C("dyestuff2", "dyestuff2", "Yield ~ 1 + (1 | Batch)", "Batch", NULL, desc = "one-way, singular fit (variance estimate exactly 0)"),
  C("cake", "cake", "angle ~ recipe * temperature + (1 | recipe:replicate)", "replicate", "angle ~ recipe + temperature + (1 | recipe:replicate)", desc = "split-plot; temperature as an unordered factor (treatment contrasts)", emm = list(~ recipe, ~ temperature, ~ recipe | temperature)),
  C("cake_poly", "cake", "angle ~ recipe * temperature + (1 | recipe:replicate)", "replicate", "angle ~ recipe + temperature + (1 | recipe:replicate)", desc = "as cake, temperature an ordered factor with orthogonal polynomial contrasts (contr.poly, levels in schema order)", prep = function(d) { d$temperature <- ordered(d$temperature, levels = levels(d$temperature)); d }, light = TRUE),
  C("machines_nested", "machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", "Worker", "score ~ 1 + (1 | Worker) + (1 | Worker:Machine)", desc = "intercepts for worker and worker-by-machine", emm = list(~ Machine)),
  C("machines_slopes", "machines", "score ~ Machine + (Machine | Worker)", "Worker", "score ~ 1 + (Machine | Worker)", desc = "3x3 unstructured factor slopes"),
  C("orthodont", "orthodont", "distance ~ age * Sex + (age | Subject)", "Subject", "distance ~ age + Sex + (age | Subject)", desc = "growth curves"),
  C("exam", "exam", "score ~ hours_studied + prior_gpa + (1 | student_id) + (1 | school_id)", c("student_id", "school_id"), "score ~ hours_studied + (1 | student_id) + (1 | school_id)", desc = "unbalanced crossed, no true group effects"),
  C("exam_effects", "exam_effects", "score ~ hours_studied + prior_gpa + (1 | student_id) + (1 | school_id)", c("student_id", "school_id"), "score ~ hours_studied + (1 | student_id) + (1 | school_id)", desc = "unbalanced crossed with real group effects"),
  C("sleepstudy_weights", "sleepstudy", "Reaction ~ Days + (Days | Subject)", "Subject", "Reaction ~ 1 + (Days | Subject)", desc = "prior weights (column w): Var(e_i) = sigma^2 / w_i", weights = "w"),
  C("sleepstudy_offset", "sleepstudy", "Reaction ~ Days + offset(off) + (Days | Subject)", "Subject", "Reaction ~ 1 + offset(off) + (Days | Subject)", desc = "offset (column off)", offset = "off"),
  C("insteval", "insteval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", c("s", "d", "dept"), "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)", desc = "large crossed/partially nested; per-row vectors are given on a subset of rows (obs_index_1based)", big = TRUE)
)
names(cases) <- vapply(cases, `[[`, "", "id")
pick <- if (length(only)) cases[only] else cases

{
  if (stage %in% c("data", "all")) invisible(make_data())
  S <- if (stage != "data") schema()
  if (stage %in% c("core", "all")) for (cs in pick) run_core(cs, S[[cs$data]], root)
  if (stage %in% c("timing", "all")) for (cs in pick) run_timing(cs, S[[cs$data]], root)
}
