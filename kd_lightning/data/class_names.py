"""The public sets' class names in the order of their labels, and a check that class names can be printed."""

from collections.abc import Iterable

from kd_lightning.errors import UserError
from kd_lightning.wording import shown

DIGITS = tuple("0123456789")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100.split())


def check_class_names(names: Iterable[str]) -> None:
    """Raise ``UserError`` for a name with control characters or line breaks, or made of bytes that are not UTF-8."""
    for name in names:
        if shown(name) != name:
            raise UserError(
                f"the class name '{shown(name)}' has a control character, a line break or bytes that are not UTF-8; "
                "rename the class or its folder."
            )
