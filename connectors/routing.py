"""Where Debezium's `PartitionRouting` puts a SKU's changes (`connectors/inventory.json`).

Its hash function `murmur` is not the one of Kafka's producers: it is the upper half of an early
MurmurHash3 for 64 bits, whose constants change with every block (`io.debezium.util.MurmurHash3`).
`tests/integration/test_connect_routing.py` compares this with the real one.
"""

_WORD = 2**64 - 1
_SEED = 9001
_BLOCK = 16


def partition_of(sku: str, partitions: int) -> int:
    """The partition of the stock topic that has a SKU's changes."""
    positive = (_hash(sku.encode()) >> 32) & 0x7FFFFFFF
    return (0 if positive == 0x7FFFFFFF else positive) % partitions


def _hash(data: bytes) -> int:
    """64 bits, without a sign."""
    h1, h2 = 0x9368E53C2F6AF274 ^ _SEED, 0x586DCD208F7CD3FD ^ _SEED
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    tail = len(data) % _BLOCK
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        # The bytes of the last block, which is not full, are taken with their sign.
        signed = tail > 0 and len(block) < _BLOCK
        k1, k2 = (_number(block[half : half + 8], signed) for half in (0, 8))
        h1 ^= _rotated(k1 * c1, 23) * c2 & _WORD
        h1 = h1 + h2 & _WORD
        h2 = _rotated(h2, 41)
        h2 ^= _rotated(k2 * c2, 23) * c1 & _WORD
        h2 = h2 + h1 & _WORD
        h1 = h1 * 3 + 0x52DCE729 & _WORD
        h2 = h2 * 3 + 0x38495AB5 & _WORD
        c1 = c1 * 5 + 0x7B7D159C & _WORD
        c2 = c2 * 5 + 0x6BCE6396 & _WORD
    h2 ^= len(data)
    h1 = h1 + h2 & _WORD
    h2 = h2 + h1 & _WORD
    return _mixed(h1) + _mixed(h2) & _WORD


def _number(some: bytes, signed: bool) -> int:
    """Up to eight bytes, the lowest first."""
    if not signed:
        return int.from_bytes(some, "little")
    found = 0
    for position, byte in enumerate(some):
        found ^= (byte - 256 if byte > 127 else byte) << 8 * position
    return found & _WORD


def _rotated(word: int, bits: int) -> int:
    word &= _WORD
    return (word << bits | word >> 64 - bits) & _WORD


def _mixed(word: int) -> int:
    word = (word ^ word >> 33) * 0xFF51AFD7ED558CCD & _WORD
    word = (word ^ word >> 33) * 0xC4CEB9FE1A85EC53 & _WORD
    return word ^ word >> 33
