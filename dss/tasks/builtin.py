"""The built-in tasks, by name."""

from collections.abc import Callable

from torch.nn.functional import cross_entropy, l1_loss

from dss.tasks import data
from dss.tasks.nets import DigitsNet, PaperMNISTNet, PolynomialNet
from dss.tasks.task import Task


def digits() -> Task:
    """A small conv net on scikit-learn's digits, judged by its cross-entropy on 597 test images."""
    train, test = data.digits()
    return Task(DigitsNet(), cross_entropy, train, test, batch_size=128, name="digits", epochs=40, learning_rate=2e-3)


def quadratics() -> Task:
    """The paper's bias-free 1-4-4-1 network on y = x^2/2 + x/4 + 1/10, judged by the mean absolute error."""
    train, test = data.polynomial((0.5, 0.25, 0.1))
    net = PolynomialNet(bias=False, bounded=True)
    return Task(net, l1_loss, train, test, name="quadratics", epochs=2000, learning_rate=1e-2)


def cubics() -> Task:
    """The paper's 1-4-4-1 network on y = 8x^3 - 10x^2 + 3x, judged by the mean absolute error."""
    train, test = data.polynomial((8.0, -10.0, 3.0, 0.0))
    net = PolynomialNet(bias=True, bounded=False)
    return Task(net, l1_loss, train, test, name="cubics", epochs=4000, learning_rate=1e-2)


def fashion() -> Task:
    """The paper's MNIST network (3.3 million parameters) on Fashion-MNIST, judged on the 10,000 test images."""
    train, test = data.fashion()
    return Task(PaperMNISTNet(), cross_entropy, train, test, batch_size=100, name="fashion", epochs=2, learning_rate=5e-4)


BUILTIN: dict[str, Callable[[], Task]] = {t.__name__: t for t in (digits, quadratics, cubics, fashion)}

# Tasks that would ask the network for their data, and whether they need not.
AT_HAND: dict[str, Callable[[], bool]] = {"fashion": lambda: data.fashion_folder() is not None}
