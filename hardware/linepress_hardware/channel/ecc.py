"""Error-correcting codes of the channel: Hsiao SECDED (72,64) and Reed–Solomon single-symbol codes.

Everything is vectorised over words. A decoder reports a status and the word it believes in; only the fault campaign
(`linepress_hardware.channel.ras`) knows the truth.

Sources: M. Y. Hsiao, "A class of optimal minimum odd-weight-column SEC-DED codes", IBM J. Res. Dev. 14 (1970);
Reed–Solomon syndromes S_j = sum_i e_i a^(i j) over GF(2^8) with x^8 + x^4 + x^3 + x^2 + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError

CLEAN = 0
CORRECTED = 1
DETECTED = 2


@dataclass(frozen=True)
class Decoded:
    """What a decoder says about n words.

    Attributes
    ----------
    data : uint8[n, data_bytes]
        The word it believes in (as received where it only detected).
    status : uint8[n]
        `CLEAN`, `CORRECTED` or `DETECTED`.
    syndrome : uint32[n]
        Logged with an error; 0 for a clean word.
    """

    data: NDArray[np.uint8]
    status: NDArray[np.uint8]
    syndrome: NDArray[np.uint32]


@dataclass(frozen=True)
class SecDed:
    """Hsiao (72,64): 8 check bits on 64 data bits; corrects one bit, detects two.

    Columns of the parity-check matrix: every check bit a column of weight 1, the 56 columns of weight 3, and the
    first 8 columns of weight 5 that keep the row weights balanced (27 ones in each row).
    """

    name: str = "secded-72-64"
    data_bytes: int = 8
    check_bytes: int = 1

    @property
    def overhead(self) -> float:
        """Check bits over data bits."""
        return self.check_bytes / self.data_bytes

    def encode(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Code words uint8[n, 9] of data uint8[n, 8]; the check byte comes last."""
        check = np.bitwise_xor.reduce(_secded_tables()[np.arange(8)[None, :], data], axis=1)
        return np.concatenate([data, check[:, None]], axis=1)

    def decode(self, words: NDArray[np.uint8]) -> Decoded:
        """Decode uint8[n, 9]: zero syndrome clean, a column of the matrix corrected, anything else detected."""
        data, check = words[:, :8], words[:, 8]
        syndrome = np.bitwise_xor.reduce(_secded_tables()[np.arange(8)[None, :], data], axis=1) ^ check
        position = _secded_positions()[syndrome]
        status = np.where(syndrome == 0, CLEAN, np.where(position >= 0, CORRECTED, DETECTED)).astype(np.uint8)
        fixed = data.copy()
        rows = np.flatnonzero((position >= 0) & (position < 64) & (syndrome != 0))
        bit = position[rows]
        fixed[rows, bit // 8] ^= (1 << (bit % 8)).astype(np.uint8)
        return Decoded(fixed, status, syndrome.astype(np.uint32))


@lru_cache(maxsize=1)
def secded_columns() -> NDArray[np.uint8]:
    """The 72 columns of the parity-check matrix as bytes: 64 data columns, then the 8 check columns."""
    weight3 = [sum(1 << b for b in c) for c in combinations(range(8), 3)]
    # Weight-5 columns as cyclic shifts of 0b00011111: eight of them put five ones in each row.
    weight5 = [((0b11111 << k) | (0b11111 >> (8 - k))) & 0xFF for k in range(8)]
    return np.array(weight3 + weight5 + [1 << b for b in range(8)], dtype=np.uint8)


@lru_cache(maxsize=1)
def _secded_tables() -> NDArray[np.uint8]:
    """uint8[8, 256]: contribution of each value of each data byte to the check byte."""
    columns = secded_columns()
    tables = np.zeros((8, 256), np.uint8)
    for byte in range(8):
        for bit in range(8):
            has = (np.arange(256) >> bit & 1).astype(bool)
            tables[byte, has] ^= columns[8 * byte + bit]
    return tables


@lru_cache(maxsize=1)
def _secded_positions() -> NDArray[np.int64]:
    """int64[256]: bit position (0..71) whose column equals a syndrome, -1 for none."""
    positions = np.full(256, -1, np.int64)
    positions[secded_columns()] = np.arange(72)
    return positions


@dataclass(frozen=True)
class SymbolCode:
    """Reed–Solomon over GF(2^8), ``data_bytes`` data and ``check_bytes`` check symbols, decoded for one bad symbol.

    Two check symbols correct any single symbol (distance 3). Four (distance 5) correct one and detect any two and
    three. On a 32 B atom: 6.25 % and 12.5 % of the data.
    """

    name: str
    data_bytes: int = 32
    check_bytes: int = 2

    @property
    def overhead(self) -> float:
        """Check bits over data bits."""
        return self.check_bytes / self.data_bytes

    def encode(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Code words uint8[n, data + check]; the check symbols make every syndrome zero."""
        r, k = self.check_bytes, self.data_bytes
        exp, log = _gf_tables()
        partial = self._syndromes(np.concatenate([data, np.zeros((data.shape[0], r), np.uint8)], axis=1))
        inverse = _check_inverse(k, r)
        check = np.zeros((data.shape[0], r), np.uint8)
        for row in range(r):
            for col in range(r):
                check[:, row] ^= _gf_mul_const(partial[:, col], int(inverse[row, col]), exp, log)
        return np.concatenate([data, check], axis=1)

    def _syndromes(self, words: NDArray[np.uint8]) -> NDArray[np.uint8]:
        exp, log = _gf_tables()
        n = words.shape[1]
        out = np.zeros((words.shape[0], self.check_bytes), np.uint8)
        for j in range(self.check_bytes):
            power = (np.arange(n) * j) % 255
            product = np.where(words > 0, exp[(log[words] + power[None, :]) % 255], 0).astype(np.uint8)
            out[:, j] = np.bitwise_xor.reduce(product, axis=1)
        return out

    def decode(self, words: NDArray[np.uint8]) -> Decoded:
        """Decode uint8[n, data + check]: one bad symbol corrected, anything else that shows is detected."""
        _, log = _gf_tables()
        s = self._syndromes(words)
        none = ~s.any(axis=1)
        every = s.all(axis=1)
        position = (log[s[:, 1]] - log[s[:, 0]]) % 255
        single = every & (position < words.shape[1])
        for j in range(2, self.check_bytes):
            single &= (log[s[:, j]] - log[s[:, j - 1]]) % 255 == position
        fixed = words.copy()
        rows = np.flatnonzero(single)
        fixed[rows, position[rows]] ^= s[rows, 0]
        status = np.where(none, CLEAN, np.where(single, CORRECTED, DETECTED)).astype(np.uint8)
        packed = np.zeros(words.shape[0], np.uint32)
        for j in range(self.check_bytes):
            packed |= s[:, j].astype(np.uint32) << np.uint32(8 * j)
        return Decoded(fixed[:, : self.data_bytes], status, packed)


@lru_cache(maxsize=1)
def _gf_tables() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """exp uint8[255] and log int64[256] of GF(2^8) over 0x11D; log[0] is 0 and never used unmasked."""
    exp = np.zeros(255, np.uint8)
    log = np.zeros(256, np.int64)
    x = 1
    for i in range(255):
        exp[i] = x
        log[x] = i
        x <<= 1
        if x & 0x100:
            x ^= 0x11D
    return exp, log


def _gf_mul_const(
    a: NDArray[np.uint8], constant: int, exp: NDArray[np.uint8], log: NDArray[np.int64]
) -> NDArray[np.uint8]:
    if constant == 0:
        return np.zeros_like(a)
    return np.where(a > 0, exp[(log[a] + log[constant]) % 255], 0).astype(np.uint8)


@lru_cache(maxsize=8)
def _check_inverse(k: int, r: int) -> NDArray[np.uint8]:
    """Inverse over GF(2^8) of the r × r matrix a^((k + c) j): solves for check symbols from partial syndromes."""
    exp, log = _gf_tables()

    def mul(a: int, b: int) -> int:
        return int(exp[(log[a] + log[b]) % 255]) if a and b else 0

    matrix = [[int(exp[(k + c) * j % 255]) for c in range(r)] + [int(c == j) for c in range(r)] for j in range(r)]
    for i in range(r):
        pivot = next(row for row in range(i, r) if matrix[row][i])
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        scale = int(exp[(255 - log[matrix[i][i]]) % 255])
        matrix[i] = [mul(scale, v) for v in matrix[i]]
        for row in range(r):
            if row != i and matrix[row][i]:
                factor = matrix[row][i]
                matrix[row] = [v ^ mul(factor, w) for v, w in zip(matrix[row], matrix[i], strict=True)]
    return np.array([row[r:] for row in matrix], dtype=np.uint8)


Code = SecDed | SymbolCode

CODES: dict[str, Code] = {
    "secded-72-64": SecDed(),
    "rs-34-32": SymbolCode("rs-34-32", 32, 2),
    "rs-36-32": SymbolCode("rs-36-32", 32, 4),
}


def code(name: str) -> Code:
    """The code of a name; raises `ConfigurationError` for one that does not exist."""
    found = CODES.get(name)
    if found is None:
        raise ConfigurationError(f"unknown error-correcting code {name!r}: known are {', '.join(CODES)}")
    return found
