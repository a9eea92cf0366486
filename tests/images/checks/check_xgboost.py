"""XGBoost: real boosting rounds, and the formats in which it keeps checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path

import joblib
import numpy as np
import sklearn.datasets
import xgboost as xgb

FEATURES, TARGETS = sklearn.datasets.make_regression(n_samples=500, n_features=8, noise=1.0, random_state=0)
DATA = xgb.DMatrix(FEATURES, TARGETS)
PARAMETERS = {"max_depth": 3, "eta": 0.3, "device": "cpu"}


def training_on_the_cpu_lowers_the_error(folder: Path) -> None:
    history: dict[str, dict[str, list[float]]] = {}
    xgb.train(PARAMETERS, DATA, 20, evals=[(DATA, "train")], evals_result=history, verbose_eval=False)
    errors = history["train"]["rmse"]
    assert errors[-1] < errors[0] / 2


def a_run_that_resumes_from_a_file_ends_as_if_it_had_not_stopped(folder: Path) -> None:
    uninterrupted = xgb.train(PARAMETERS, DATA, 10)
    for name in ("model.ubj", "model.json"):
        xgb.train(PARAMETERS, DATA, 5).save_model(folder / name)
        resumed = xgb.train(PARAMETERS, DATA, 5, xgb_model=folder / name)
        assert resumed.num_boosted_rounds() == 10
        np.testing.assert_allclose(resumed.predict(DATA), uninterrupted.predict(DATA), rtol=1e-4, atol=1e-3)


def its_own_callback_writes_checkpoints_that_load(folder: Path) -> None:
    callback = xgb.callback.TrainingCheckPoint(directory=folder, interval=2, name="checkpoint")
    xgb.train(PARAMETERS, DATA, 6, callbacks=[callback])
    newest = max(folder.iterdir(), key=lambda path: int(path.stem.rpartition("_")[2]))
    assert xgb.Booster(model_file=newest).num_boosted_rounds() >= 5


def pickle_and_joblib_bring_back_the_scikit_learn_model(folder: Path) -> None:
    model = xgb.XGBRegressor(n_estimators=5, **PARAMETERS).fit(FEATURES, TARGETS)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    joblib.dump(model, folder / "model.joblib")
    expected = model.predict(FEATURES)
    assert np.array_equal(pickle.loads((folder / "model.pkl").read_bytes()).predict(FEATURES), expected)
    assert np.array_equal(joblib.load(folder / "model.joblib").predict(FEATURES), expected)
