"""Names and arguments that people know from elsewhere, and what they are called here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import ParamSpec, TypeVar

from interlace.errors import InterlaceError

P = ParamSpec("P")
R = TypeVar("R")

# What is asked of a fitted model elsewhere: the package, how it is spelled there, and here.
RESULT_NAMES: dict[str, tuple[str, str, str]] = {
    "ranef": ("lme4", "ranef(model)", "result.random_effects"),
    "fixef": ("lme4", "fixef(model)", "result.fe_params"),
    "VarCorr": ("lme4", "VarCorr(model)", "result.variance_components"),
    "getME": ("lme4", "getME(model, ...)", "result.theta, result.design and the like"),
    "ngrps": ("lme4", "ngrps(model)", "result.ngroups"),
    "isSingular": ("lme4", "isSingular(model)", "result.is_singular"),
    "REMLcrit": ("lme4", "REMLcrit(model)", "result.criterion"),
    "refitML": ("lme4", "refitML(model)", 'result.update(method="ML")'),
    "bootMer": ("lme4", "bootMer(model, ...)", "result.bootstrap()"),
    "allFit": ("lme4", "allFit(model)", "result.convergence, which certifies the optimum"),
    "rePCA": ("lme4", "rePCA(model)", "result.singular_report()"),
    "condVar": ("lme4", "ranef(model, condVar=TRUE)", "result.random_effects_se"),
    "confint": ("R", "confint(model)", "result.conf_int()"),
    "vcov": ("R", "vcov(model)", "result.cov_params()"),
    "fitted": ("R", "fitted(model)", "result.fittedvalues"),
    "residuals": ("R", "residuals(model)", "result.resid"),
    "resids": ("R", "resid(model)", "result.resid"),
    "logLik": ("R", "logLik(model)", "result.llf"),
    "deviance": ("R", "deviance(model)", "result.criterion"),
    "AIC": ("R", "AIC(model)", "result.aic"),
    "BIC": ("R", "BIC(model)", "result.bic"),
    "sigma": ("R", "sigma(model)", "result.scale ** 0.5"),
    "coefficients": ("R", "coefficients(model)", "result.fe_params, or coef() by group"),
    "coefs": ("R", "coef(model)", "result.coef(), or result.fe_params"),
    "drop1": ("R", "drop1(model)", "result.anova()"),
    "df_residual": ("R", "df.residual(model)", "result.glance()"),
    "df_resid": ("statsmodels", "result.df_resid", "result.fe_df, by coefficient"),
    "model_matrix": ("R", "model.matrix(model)", "result.design.X"),
    "hatvalues": ("R", "hatvalues(model)", "interlace.leverage(result)"),
    "cooks_distance": ("R", "cooks.distance(model)", "interlace.cooks_distance(result)"),
    "influence": ("R", "influence(model)", "interlace.hlm_influence(result)"),
    "rand": ("lmerTest", "rand(model)", "result.ranova()"),
    "ls_means": ("lmerTest", "ls_means(model)", "result.emmeans()"),
    "lsmeans": ("emmeans", "lsmeans(model, ...)", "result.emmeans()"),
    "contest": ("lmerTest", "contest(model, L)", "result.wald_test()"),
    "glht": ("multcomp", "glht(model, ...)", "result.emmeans(...).contrasts()"),
    "intervals": ("nlme", "intervals(model)", "result.conf_int()"),
    "getVarCov": ("nlme", "getVarCov(model)", "result.variance_components"),
    "modelStruct": ("nlme", "model$modelStruct", "result.variance_components"),
    "ACF": ("nlme", "ACF(model)", "interlace.autocorrelation(result)"),
    "Variogram": ("nlme", "Variogram(model)", "interlace.semivariogram(result)"),
    "df_1d": ("mmrm", "df_1d(model, ...)", "result.wald_test()"),
    "df_md": ("mmrm", "df_md(model, ...)", "result.wald_test()"),
    "varcomp": ("nlme", "VarCorr(model)", "result.variance_components"),
    "cov_re": ("statsmodels", "result.cov_re", "result.variance_components"),
    "vcomp": ("statsmodels", "result.vcomp", "result.variance_components"),
    "bse_fe": ("statsmodels", "result.bse_fe", "result.fe_bse"),
    "bse_re": ("statsmodels", "result.bse_re", 'result.tidy("ran_pars")'),
    "random_effects_cov": ("statsmodels", "result.random_effects_cov", "result.random_effects_se"),
    "fe_tvalue": ("statsmodels", "result.tvalues", "result.fe_tvalues"),
    "t_test": ("statsmodels", "result.t_test()", "result.wald_test()"),
    "f_test": ("statsmodels", "result.f_test()", "result.wald_test()"),
    "wald_test_terms": ("statsmodels", "result.wald_test_terms()", "result.anova()"),
    "get_prediction": ("statsmodels", "result.get_prediction()", "result.predict(interval=...)"),
    "profile_re": ("statsmodels", "result.profile_re()", "result.profile()"),
    "rsquared": ("statsmodels", "result.rsquared", "result.r2()"),
    "mse_resid": ("statsmodels", "result.mse_resid", "result.scale"),
    "remove_data": ("statsmodels", "result.remove_data()", "a pickled result"),
    "zinf": ("glmmTMB", "fixef(model)$zi", "zero_inflation of a model that has zero_inflation="),
    "simulateResiduals": ("DHARMa", "simulateResiduals()", "interlace.check_residuals(result)"),
    "check_model": ("performance", "check_model(model)", "result.check()"),
    "vif": ("car", "vif(model)", "interlace.check_collinearity(result)"),
    "powerSim": ("simr", "powerSim(model)", "result.power()"),
    "powerCurve": ("simr", "powerCurve(model)", "result.power(sizes=...)"),
    "simulate_residuals": ("DHARMa", "simulateResiduals()", "interlace.check_residuals(result)"),
    "plot_effects": ("effects", "plot(allEffects(model))", "interlace.plot_predictions(result, x)"),
    "effects": ("effects", "allEffects(model)", "result.emmeans(), or plot_predictions"),
    "ggpredict": ("ggeffects", "ggpredict(model, ...)", "interlace.plot_predictions(result, x)"),
    "pairs": ("emmeans", "pairs(emmeans(model, ...))", "result.emmeans(...).contrasts()"),
    "contrast": ("emmeans", "contrast(emmeans(model, ...))", "result.emmeans(...).contrasts()"),
    "linear_hypothesis": ("car", "linearHypothesis(model)", "result.wald_test()"),
    "linearHypothesis": ("car", "linearHypothesis(model)", "result.wald_test()"),
    "Anova": ("car", "Anova(model)", "result.anova()"),
    "vcovCR": ("clubSandwich", "vcovCR(model, ...)", 'result.cov_params(robust="CR2")'),
    "coef_test": ("clubSandwich", "coef_test(model, ...)", 'result.coef_table(robust="CR2")'),
    "cAIC": ("cAIC4", "cAIC(model)", "result.caic()"),
    "r_squared": ("MuMIn", "r.squaredGLMM(model)", "result.r2()"),
    "standardize_parameters": ("parameters", "standardize_parameters()", "result.standardized()"),
    "dfbetas": ("R", "dfbetas(model)", "interlace.hlm_influence(result, approx=False)"),
    "dfbeta": ("R", "dfbeta(model)", "interlace.hlm_influence(result, approx=False)"),
    "fit": ("statsmodels", "model.fit()", "interlace.fit(), which has done that"),
}

# What makes models or tables elsewhere.
MODULE_NAMES: dict[str, tuple[str, str]] = {
    "lmer": ("lme4", "interlace.fit(formula, data)"),
    "glmer": ("lme4", "interlace.fit(formula, data, family=...)"),
    "lme": ("nlme", "interlace.fit(formula, data)"),
    "gls": ("nlme", "interlace.fit(formula, data, residual=...)"),
    "glmmTMB": ("glmmTMB", "interlace.fit(formula, data, family=...)"),
    "mixedlm": ("statsmodels", "interlace.fit(formula, data, groups=...)"),
    "MixedLM": ("statsmodels", "interlace.fit(formula, data, groups=...)"),
    "mmrm": ("mmrm", "interlace.fit(formula, data, residual=...)"),
    "emmeans": ("emmeans", "result.emmeans(...)"),
    "ranef": ("lme4", "result.random_effects"),
    "fixef": ("lme4", "result.fe_params"),
    "VarCorr": ("lme4", "result.variance_components"),
    "modelsummary": ("modelsummary", "interlace.table(m1, m2)"),
    "tab_model": ("sjPlot", "interlace.table(m1, m2)"),
    "stargazer": ("stargazer", "interlace.table(m1, m2)"),
    "check_model": ("performance", "result.check()"),
    "check_normality": ("performance", "interlace.check_residuals(result), or result.check()"),
    "check_outliers": ("performance", "interlace.check_influence(result)"),
    "simulateResiduals": ("DHARMa", "interlace.check_residuals(result)"),
    "vif": ("car", "interlace.check_collinearity(result)"),
    "ggpredict": ("ggeffects", "interlace.plot_predictions(result, ...)"),
    "plot_model": ("sjPlot", "interlace.plot_coef(result), or plot_predictions"),
    "simulate_residuals": ("DHARMa", "interlace.check_residuals(result)"),
    "plot_effects": ("effects", "interlace.plot_predictions(result, x)"),
    "allEffects": ("effects", "result.emmeans(), or plot_predictions"),
    "powerSim": ("simr", "result.power(), or interlace.power(...) from nothing"),
    "powerCurve": ("simr", "result.power(sizes=...)"),
    "vcovCR": ("clubSandwich", 'result.cov_params(robust="CR2")'),
    "step": ("lmerTest", "result.step()"),
    "mice": ("mice", "interlace.pool(results) of fits to the imputed data"),
    "cAIC": ("cAIC4", "result.caic()"),
}

# What is asked of estimated means elsewhere.
MEANS_NAMES: dict[str, tuple[str, str, str]] = {
    "pairs": ("emmeans", "pairs(means)", "means.contrasts()"),
    "contrast": ("emmeans", "contrast(means, ...)", "means.contrasts()"),
    "cld": ("multcomp", "cld(means)", "means.letters()"),
    "summary": ("emmeans", "summary(means)", "means.table"),
    "confint": ("emmeans", "confint(means)", "means.table"),
    "test": ("emmeans", "test(means, joint=TRUE)", "means.joint_tests()"),
    "regrid": ("emmeans", "regrid(means)", 'result.emmeans(..., type="response")'),
    "to_frame": ("pandas", "means.to_frame()", "means.table"),
}

# Arguments of functions elsewhere, and what to write here.
ARGUMENTS: dict[str, str] = {
    "REML": 'method="REML", or method="ML" for REML=False',
    "reml": 'method="REML", or method="ML" for reml=False',
    "subset": "fit the rows wanted: data[rows]",
    "control": "leave it out: the optimiser has no settings, see result.convergence",
    "start": "theta0=",
    "start_params": "theta0=",
    "nAGQ": "quadrature=",
    "na_action": 'missing="drop" or "raise"',
    "contrasts": "C(x, contr.sum) in the formula",
    "verbose": "progress=True",
    "maxiter": "leave it out: the search ends by itself, see result.convergence",
    "re_formula": 'random="(x | g)", or bars in the formula',
    "vc_formula": "bars in the formula: (1 | a/b), (1 | a) + (1 | b)",
    "exog_re": 'random="(x | g)", or bars in the formula',
    "correlation": 'residual="ar1(time | g)" and the like',
    "zi": 'zero_inflation="~ z"',
    "kind": "family=families.NegativeBinomial(kind=1) and the like",
    "df": "family=families.StudentT(df=...)",
    "correlated": "|| in place of | in the random term",
    "ziformula": 'zero_inflation="~ z"',
    "dispformula": 'dispersion="~ z"',
    "dist": "family=",
    "freq_weights": "weights=",
    "exog": "newdata=",
    "re_form": "include_re=False for re.form=NA; names of grouping factors for a part",
    "allow_new_levels": 'new_levels="zero", which is what happens, or "raise"',
    "use_u": "include_re=True",
    "conf_level": "level=",
    "lmer_df": 'ddf="kenward-roger" or "satterthwaite"',
    "df_method": "ddf=",
    "mode": "ddf=",
    "use_t": 'ddf="satterthwaite"',
    "cov_type": 'robust="CR2", cluster=',
    "cov_kwds": 'robust="CR2", cluster=',
    "pairwise": 'emmeans(...).contrasts("pairwise")',
    "direction": "leave it out: step() goes backwards, from the model to fewer terms",
    "pbkrtest_limit": "leave it out: there is no limit of rows",
}


# Families elsewhere that have another name here, or none.
FAMILIES: dict[str, str] = {
    "zip": 'family="poisson" with zero_inflation="~ 1"',
    "zinb": 'family="negative-binomial" with zero_inflation="~ 1"',
    "zero-inflated-poisson": 'family="poisson" with zero_inflation="~ 1"',
    "zero-inflated-negative-binomial": 'family="negative-binomial" with zero_inflation="~ 1"',
    "hurdle": 'family="truncated-poisson" with zero_inflation="~ 1"',
    "hurdle-poisson": 'family="truncated-poisson" with zero_inflation="~ 1"',
    "quasi": 'family="negative-binomial", or a random effect for every row',
    "quasipoisson": 'family="negative-binomial", or a random effect for every row',
    "quasibinomial": 'family="beta-binomial", or a random effect for every row',
    "genpois": 'family="negative-binomial"',
    "compois": 'family="negative-binomial"',
    "logit": 'family="binomial"',
    "logistic": 'family="binomial"',
    "probit": 'family="binomial" with link="probit"',
    "cloglog": 'family="binomial" with link="cloglog"',
    "exponential": 'family="gamma"',
    "lognormal": "log(y) as the response of a linear model",
    "multinomial": 'family="ordinal" where the categories have an order, or family="binomial" for '
    "each of them against the others",
    "categorical": 'family="ordinal" where the categories have an order, or family="binomial" for '
    "each of them against the others",
}


class UnknownArgumentError(InterlaceError, TypeError):
    """An argument that a function does not have, with what it may be called here."""


def of_module(name: str) -> str:
    """What a function elsewhere is here; empty if nothing is known."""
    if name not in MODULE_NAMES:
        return ""
    package, here = MODULE_NAMES[name]
    return f"{package}'s {name} is {here}"


def of_family(name: str) -> str:
    """What to write for a family elsewhere; empty if nothing is known."""
    return FAMILIES.get(name, "")


def missing_attribute(
    kind: str,
    name: str,
    known: list[str],
    names: Mapping[str, tuple[str, str, str]] = RESULT_NAMES,
) -> AttributeError:
    """The error of an attribute that a result does not have, or another value."""
    said = f"{kind!r} object has no attribute {name!r}"
    package, there, here = names.get(name, ("", "", ""))
    more = f"{package}'s {there} is {here}"
    if not package:
        near = get_close_matches(name, [n for n in known if not n.startswith("_")], n=1)
        more = f"did you mean {near[0]!r}?" if near else ""
    return AttributeError(f"{said}: {more}" if more else said)


def hinted(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose error about an unknown argument says what to write here."""
    known = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise unknown_argument(function.__name__, name, known)
        return function(*args, **kwargs)

    return called


def unknown_argument(function: str, name: str, known: list[str]) -> UnknownArgumentError:
    """The error of an argument that a function does not have."""
    said = f"{function}() got an unexpected keyword argument {name!r}"
    if name in ARGUMENTS:
        here = ARGUMENTS[name]
        verb = "" if here.startswith(("leave ", "fit ")) else "write "
        return UnknownArgumentError(f"{said}: {verb}{here}")
    near = get_close_matches(name, known, n=1)
    return UnknownArgumentError(f"{said}: did you mean {near[0]!r}?" if near else said)
