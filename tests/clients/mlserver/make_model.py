"""Makes the model that MLServer serves as the control of docs/conformance.md: a classifier of 784 numbers."""

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

random = np.random.default_rng(0)
images, labels = random.random((200, 784), dtype=np.float32), np.arange(200) % 10
joblib.dump(LogisticRegression(max_iter=50).fit(images, labels), "model.joblib")
