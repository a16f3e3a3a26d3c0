"""A source of examples in memory, for tests that need a dataset without files."""

from flaxseg.data import Source


class ListSource(Source):
    """Examples in a list; an exception in place of an example is raised when it is read."""

    def __init__(self, examples=()):
        self.examples = list(examples)

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index, /):
        example = self.examples[index]
        if isinstance(example, Exception):
            raise example
        return example
