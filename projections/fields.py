"""Names in the working state of a SKU that are no warehouses, as text and as Redis has them."""

REVISION = ":revision"
PUBLISHED = ":published"
PARTITION = ":partition"
ALERTED = ":alerted"
OVERRIDE_PREFIX = ":override:"

REVISION_FIELD = REVISION.encode()
PUBLISHED_FIELD = PUBLISHED.encode()
PARTITION_FIELD = PARTITION.encode()
ALERTED_FIELD = ALERTED.encode()
OVERRIDE_FIELD_PREFIX = OVERRIDE_PREFIX.encode()

#: What decoding raises at a value that no writer of ours wrote.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError)
