"""The pace of a device over time: a curve through readings of it, with the error of the curve.

A device that is warm, or shared, takes longer for everything: its pace is 1.2 if everything takes 1.2 times as long as
usual. Whatever has a known time gives a reading of the pace when it is timed: an anchor network that is timed again and
again, or networks whose times a table predicts.
"""

import dataclasses
import itertools
import math

import numpy as np

# Values tried for the curve: standard deviation of log(pace) in units of a reading's error, and time over which the
# pace changes in units of the median gap between readings. The most probable combination is taken.
RATIOS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SPANS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# What is assumed before the first reading, so that few readings are followed, too: an error of 0.7 % as if seen in ten
# readings, and the usual ratio and span with the standard deviation of their logarithms.
USUAL_ERROR, USUAL_SEEN = 0.007, 10
USUAL_RATIO, USUAL_SPAN, USUAL_WIDTH = 5.0, 10.0, 1.0
# Degrees of freedom of Student's distribution, which a reading's error follows: some readings are far off, because a
# device does something else for a moment.
FREEDOM = 2.0
ROUNDS = 4
# Readings, from the middle, by which the values are chosen. With more the choice takes longer and is much the same.
CHOOSING = 400


@dataclasses.dataclass(frozen=True)
class Pace:
    """Readings of the pace, and how smooth the curve through them is.

    Attributes:
        times: Times of the readings in any unit, float64 [readings].
        usual_log: Logarithm of the usual pace, to which the curve returns where there are no readings.
        logs: Logarithms of the readings, relative to the usual pace, float64 [readings].
        variances: Squared standard deviations of the readings' errors, larger for outliers, float64 [readings].
        sigma: Standard deviation of log(pace).
        span: Time over which the pace changes.
    """

    times: np.ndarray
    usual_log: float
    logs: np.ndarray
    variances: np.ndarray
    sigma: float
    span: float

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pace at any times, from all readings.

        Args:
            times: Times, float64 [times].

        Returns:
            The pace, and its relative standard deviation, both float64 [times].
        """
        nothing = np.zeros(len(times))
        logs, errors = _from_others(np.concatenate([self.times, times]), np.concatenate([self.logs, nothing]),
                                    np.concatenate([self.variances, nothing + np.inf]), self.sigma, self.span)
        return np.exp(self.usual_log + logs[len(self.times):]), errors[len(self.times):]

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The pace at each reading from the other readings only, and its relative standard deviation."""
        logs, errors = _from_others(self.times, self.logs, self.variances, self.sigma, self.span)
        return np.exp(self.usual_log + logs), errors


def curve(times: np.ndarray, readings: np.ndarray) -> Pace:
    """The most probable curve through readings.

        log(reading) = usual_log + x(time) + error,    cov(x(s), x(t)) = sigma**2 * exp(-abs(s - t) / span)

    x is the Ornstein-Uhlenbeck process: it follows readings that are near in time, and forgets them with distance. Its
    sigma, its span and the size of the errors maximise the probability of the readings (marginal likelihood), which a
    Kalman filter gives in time linear in their number. Errors follow Student's distribution: readings far from the
    curve of the others weigh less.

    Args:
        times: Times of the readings in any unit, float64 [readings].
        readings: Readings of the pace, above 0: how many times as long as usual something took, float64 [readings].
    """
    times, logs = np.asarray(times, np.float64), np.log(np.asarray(readings, np.float64))
    usual_log = float(np.median(logs))
    logs = logs - usual_log
    start = max(0, (len(times) - CHOOSING) // 2)
    middle = np.argsort(times, kind="stable")[start:start + CHOOSING]
    gaps = np.diff(times[middle])
    gap = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
    ratios, spans = np.array(list(itertools.product(RATIOS, SPANS))).T
    usual = -0.5 * (np.log(ratios / USUAL_RATIO) ** 2 + np.log(spans / USUAL_SPAN) ** 2) / USUAL_WIDTH**2
    factors = np.ones(len(times))
    for _ in range(ROUNDS):
        means, ahead = _filtered(times[middle], logs[middle], factors[middle], ratios, gap * spans)
        totals = ahead + factors[middle, None]
        logdet, square = np.log(totals).sum(0), ((logs[middle, None] - means) ** 2 / totals).sum(0)
        seen = len(middle) + USUAL_SEEN
        noises = np.sqrt((square + USUAL_SEEN * USUAL_ERROR**2) / seen)
        best = int(np.argmax(usual - 0.5 * logdet - seen * np.log(noises)))
        noise, span = float(noises[best]), float(gap * spans[best])
        sigma = float(ratios[best]) * noise
        others, errors = _from_others(times, logs, factors * noise**2, sigma, span)
        factors = (FREEDOM + (logs - others) ** 2 / (errors**2 + noise**2)) / (FREEDOM + 1)
    return Pace(times, usual_log, logs, factors * noise**2, sigma, span)


def _from_others(times, logs, variances, sigma, span):
    """Mean and standard deviation of x at each reading from all readings but this one.

    What lies before and what lies after are independent but for the prior, which both contain.
    """
    order = np.argsort(times, kind="stable")
    times, logs, variances = times[order], logs[order], variances[order]
    means, ahead = _filtered(times, logs, variances, sigma, span)
    later, behind = _filtered(-times[::-1], logs[::-1], variances[::-1], sigma, span)
    later, behind = later[::-1], behind[::-1]
    precision, back = 1 / ahead + 1 / behind - 1 / sigma**2, np.argsort(order)
    return ((means / ahead + later / behind) / precision)[back], (1 / np.sqrt(precision))[back]


def _filtered(times, logs, variances, sigma, span):
    """Kalman filter, for one combination of sigma and span (numbers) or for many at once (arrays).

    Returns:
        Mean and variance of x at each time from the readings before it, float64 [times] or [times, combinations].
    """
    gaps = np.diff(times, prepend=times[:1])
    # Numbers of Python, which are ten times as quick as arrays of one number.
    decays = np.exp(-gaps[:, None] / span) if isinstance(span, np.ndarray) else np.exp(-gaps / span).tolist()
    mean, prior = 0.0 * sigma, sigma**2
    variance, means, ahead = prior, [], []
    for decay, log, noise in zip(decays, logs.tolist(), variances.tolist(), strict=True):
        mean, variance = decay * mean, prior + decay**2 * (variance - prior)
        means.append(mean)
        ahead.append(variance)
        if noise < math.inf:
            gain = variance / (variance + noise)
            mean, variance = mean + gain * (log - mean), gain * noise
    return np.array(means), np.array(ahead)
