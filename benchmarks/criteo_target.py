"""What the mini target of Criteo means: the cross entropy of predictors that are no network. Prints JSON.

`constant` predicts the share of late flights in training. `logistic_regression` sees what the network sees, each
integer and each category by itself, and is regularised as much as validates best; `gradient_boosting` sees the same
numbers, and finds interactions in its own way. Needs the prepared mini data.
"""

import json

import numpy as np
import scipy.sparse as sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from algoperf.data import Shards
from algoperf.data.preparation import open_prepared
from algoperf.spec import Scale, Split
from algoperf_criteo.spec import CRITEO1TB, NUM_DENSE
from algoperf_orchestrator.environment import default_data_dir

# Inverse strengths of the regularisation.
STRENGTHS = (0.003, 0.01, 0.03, 0.1)
SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)


def read() -> tuple[dict[Split, slice], np.ndarray, np.ndarray]:
    """Where the rows of each split are, all inputs [N, 39] and all labels [N]."""
    spec = CRITEO1TB.at(Scale.MINI)
    dataset = open_prepared(spec, default_data_dir())
    inputs, labels, places, end = [], [], {}, 0
    for split in SPLITS:
        number = dataset.num_stored(split)
        if split is Split.TRAIN:
            batch = next(iter(dataset.train(number, Shards(), seed=0)))
        else:
            batch = next(iter(dataset.evaluation(split, number, Shards())))
        inputs.append(batch["inputs"])
        labels.append(batch["targets"][:, 0])
        places[split], end = slice(end, end + number), end + number
    return places, np.concatenate(inputs), np.concatenate(labels)


def one_hot(inputs: np.ndarray, training: slice) -> sparse.csr_matrix:
    """Integers with mean 0 and deviation 1, and a column for each value of each category."""
    dense = inputs[:, :NUM_DENSE]
    parts = [sparse.csr_matrix((dense - dense[training].mean(axis=0)) / dense[training].std(axis=0))]
    rows = np.arange(len(inputs))
    for column in inputs[:, NUM_DENSE:].T:
        _, numbers = np.unique(column, return_inverse=True)
        parts.append(sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, numbers))))
    return sparse.hstack(parts).tocsr()


def main() -> None:
    places, inputs, labels = read()
    training = places[Split.TRAIN]

    def losses(probabilities: np.ndarray) -> list[float]:
        return [round(float(log_loss(labels[s], probabilities[s])), 4) for s in map(places.get, SPLITS[1:])]

    constant = losses(np.full(len(labels), labels[training].mean()))
    features = one_hot(inputs, training)
    regressions = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300).fit(features[training], labels[training])
        regressions.append(losses(model.predict_proba(features)[:, 1]))
    boosted = HistGradientBoostingClassifier(random_state=0).fit(inputs[training], labels[training])
    target = CRITEO1TB.at(Scale.MINI).target
    result = {
        "constant": constant,
        "logistic_regression": min(regressions),
        "gradient_boosting": losses(boosted.predict_proba(inputs)[:, 1]),
        "target": [target.validation, target.test],
    }
    print(json.dumps({"benchmark": "criteo_target", "splits": ["validation", "test"], **result}))


if __name__ == "__main__":
    main()
