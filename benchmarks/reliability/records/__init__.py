"""One record an operation: what it takes, what must come out, what must be refused."""

from benchmarks.reliability.records import elements, images, losses, norms
from benchmarks.reliability.records.record import Record as Record

RECORDS = [*images.RECORDS, *elements.RECORDS, *norms.RECORDS, *losses.RECORDS]
