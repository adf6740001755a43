"""Make labels/wordnet.tsv and labels/LICENSE-WordNet from WordNet 3.0's own data.

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet
    python recipes/make_wordnet.py wordnet/usr/share/wordnet/data.noun

The table has ImageNet's 1000 classes (labels/imagenet_1001.tsv) and all classes above them, by
depth and then by id, so that each class comes after all classes above it. A WordNet id is "n" and
the offset of the synset in data.noun. docs/labels.md describes the columns and what the marks are
for; MARKS and QUALIFIERS below are the only parts made by hand.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

LABELS = Path(__file__).parents[1] / "labels"

# Classes that are no help to people, neither as a label nor as a keyword.
#
# broad: says too little about an image. All of WordNet's upper classes down to those that name a
#   kind of thing people would photograph (animal, vehicle, clothing, food, building, ...).
# technical: a word of zoology, botany or WordNet's own order that people don't use. The nearest
#   class above or below it says the same in a plain word: mammal for placental, butterfly for
#   lepidopterous insect, bird for oscine.
# odd: right in WordNet, but misleading under an image: container for a car, drug of abuse for a
#   glass of wine, jacket for the cover of a book.
MARKS = {
    "broad": """
        n00001740 entity, n00001930 physical entity, n00002684 object, n00003553 whole,
        n00021939 artifact, n00004258 living thing, n00004475 organism, n00019128 natural object,
        n00020827 matter, n00020090 substance, n00019613 substance, n15046900 solid,
        n14580897 material, n14939900 fluid, n00007347 causal agent, n14778436 agent,
        n00002137 abstraction, n00031921 relation, n00033020 communication, n00024264 attribute,
        n00027807 shape, n13865483 round shape, n06791372 signal, n06873571 visual signal,
        n03892891 part, n13809207 part, n03932203 piece, n00027167 location, n08620061 point,
        n08578706 geographic point, n01466257 chordate, n01471682 vertebrate,
        n03575240 instrumentality, n03183080 device, n03738472 mechanism,
        n03736970 mechanical device, n03574816 instrument, n04081844 restraint,
        n03100490 conveyance, n03294048 equipment, n03430959 gear, n02727825 apparatus,
        n03563967 implement, n03405265 furnishing, n04377057 system, n03091374 connection,
        n02755352 attachment, n06254669 medium, n03122748 covering, n04014297 protective covering,
        n03076708 commodity, n03093574 consumer goods, n03839993 obstruction,
        n03297735 establishment, n03574555 institution, n04361095 supporting structure,
        n03391770 framework, n04359589 support, n04360501 support, n00022903 article,
        n04188643 sheet, n03129123 creation, n04007894 product, n04599396 work, n04362025 surface,
        n03536348 horizontal surface, n07809096 ingredient
    """,
    "technical": """
        n01886756 placental, n01873982 metatherian, n01871543 prototherian, n01871875 monotreme,
        n02441326 musteline mammal, n02507649 procyonid, n02134971 viverrine,
        n02470899 anthropoid ape, n02394477 even-toed ungulate, n02373336 odd-toed ungulate,
        n02399000 ruminant, n02401031 bovid, n02402010 bovine, n02364520 cavy, n02062430 cetacean,
        n02075927 pinniped mammal, n02323449 lagomorph, n02323902 leporid, n02503127 proboscidean,
        n02453611 edentate, n01881171 phalanger,
        n02055658 sphenisciform seabird, n02051474 pelecaniform seabird, n02057731 pelagic bird,
        n01845477 anseriform bird, n02016358 gallinule, n02016956 purple gallinule,
        n01524359 passerine, n01525720 oscine, n01578575 corvine bird, n01789386 gallinaceous bird,
        n01802721 phasianid, n01838038 piciform bird, n01825930 coraciiform bird, n01517565 ratite,
        n01831712 apodiform bird, n01822602 cuculiform bird,
        n01661818 diapsid, n01674216 saurian, n01661592 anapsid, n01662622 chelonian,
        n01695681 archosaur, n01727646 colubrid snake, n01745125 elapid, n01676755 iguanid,
        n01687665 agamid, n01692864 lacertid lizard, n01689411 anguid lizard,
        n01685439 teiid lizard, n01700470 ornithischian, n01703569 ceratopsian,
        n01473806 aquatic vertebrate, n02514825 bony fish, n02528163 teleost fish,
        n02552171 spiny-finned fish, n02554730 percoid fish, n02652668 plectognath,
        n02642107 scorpaenoid, n02642644 scorpaenid, n01428580 soft-finned fish,
        n01438208 cypriniform fish, n01439121 cyprinid, n02534559 salmonid, n02638596 ganoid,
        n01480516 cartilaginous fish, n01482071 elasmobranch,
        n01632047 ambystomid, n01640846 true frog,
        n01767661 arthropod, n02171453 lamellicorn beetle, n02171869 scarabaeid beetle,
        n02274024 lepidopterous insect, n02274822 nymphalid, n02280458 pierid, n02279637 danaid,
        n02246011 homopterous insect, n02206270 hymenopterous insect, n02268148 odonate,
        n02232951 dictyopterous insect, n02226183 orthopterous insect, n02263378 neuropteron,
        n02188699 dipterous insect, n02231052 phasmid, n01776192 acarine,
        n01976146 decapod crustacean, n01975687 malacostracan crustacean, n01942177 gastropod,
        n01909422 coelenterate, n01914163 anthozoan, n02316707 echinoderm, n12997654 basidiomycete,
        n13083586 vascular plant, n11552386 spermatophyte, n11665372 angiosperm,
        n13086908 plant part, n13087625 plant organ, n11675842 reproductive structure,
        n13138842 pome, n07713395 cruciferous vegetable, n07710007 solanaceous vegetable,
        n07566863 starches, n07570720 nutriment, n07566340 foodstuff, n07809368 flavorer,
        n02759963 autoloader, n02817799 beating-reed instrument, n03228016 double-reed instrument,
        n04222847 single-reed instrument, n03393324 free-reed instrument, n03025886 chordophone,
        n04110955 rotating mechanism, n04586421 winder, n04341414 structural member,
        n04515129 upright, n04470953 transducer, n03274561 electro-acoustic transducer,
        n02730265 applicator, n04336034 strengthener, n03099771 converging lens,
        n02688443 airfoil, n04170037 self-propelled vehicle, n03125870 craft,
        n03510583 heavier-than-air craft, n03666917 lighter-than-air craft, n04158807 sea boat,
        n04077430 reproducer, n03154073 cutter, n03265032 edge tool, n04500060 turner,
        n03659292 lever, n03002210 chair of state, n03863923 overgarment, n03490324 handwear,
        n03050026 cloth covering, n03257877 durables, n03252064 drygoods, n04580298 white goods,
        n04073948 religious residence, n03748162 mercantile establishment,
        n03907654 penal institution, n03111690 correctional institution,
        n03795580 movable barrier, n03956922 plant, n04550840 ware, n04597804 woodenware,
        n09289709 globule
    """,
    "odd": """
        n03094503 container, n02152991 game, n07560652 fare, n03247620 drug,
        n03248958 drug of abuse, n07882497 concoction, n09626238 peer, n09816771 associate,
        n10401829 participant, n10072708 explorer, n03700963 machine, n03032811 circle,
        n04120093 runner, n03678362 litter, n03733644 measure, n04137444 satellite,
        n02788689 bar, n06263369 press, n02756098 attire, n02728440 apparel, n02671780 accessory,
        n03381126 footwear, n04453910 top, n02954938 cap, n02955065 cap, n03590306 jacket,
        n02735688 area, n03178782 design, n02856463 board, n03959936 plate, n03959701 plate,
        n03302121 excavation, n03982060 pool, n09349797 mechanism, n09214581 barrier,
        n09214060 bar, n13899200 sphere, n13899404 ball, n03725035 mask, n04192858 shield
    """,
}

# What stands in brackets after a name that several classes of the table have. The word of a class
# above it where that is short and tells them apart, else of a synonym. Empty where a name means
# that class to nearly everybody.
QUALIFIERS = {
    "amphibian": {"n01627424": "animal", "n02704792": "vehicle"},
    "brass": {"n02891788": "wind instrument", "n02892201": "memorial"},
    "car": {"n02958343": "", "n02959942": "railway"},
    "cardigan": {"n02113186": "dog", "n02963159": "sweater"},
    "cloak": {"n03045337": "garment", "n03045698": "covering"},
    "convertible": {"n03100240": "car", "n03100346": "sofa"},
    "crane": {"n02012849": "bird", "n03126707": "machine"},
    "dish": {"n03206908": "crockery", "n07557434": "food"},
    "food": {"n00021265": "or drink", "n07555863": "solid"},
    "gown": {"n03450230": "dress", "n03450516": "robe"},
    "helmet": {"n03513137": "headgear", "n03513376": "armor"},
    "lamp": {"n03636248": "", "n03636649": "furniture"},
    "light": {"n03665366": "source", "n06874019": "signal"},
    "maillot": {"n03710637": "tights", "n03710721": "swimsuit"},
    "monitor": {"n01694709": "lizard", "n03782006": "screen"},
    "pot": {"n03990474": "cookware", "n03991062": "flowerpot"},
    "printer": {"n04004475": "printing machine", "n04004767": "computer"},
    "racer": {"n02384858": "animal", "n04037443": "car"},
    "rack": {"n04038440": "stand", "n04038727": "framework"},
    "screen": {"n04151581": "netting", "n04151940": "cover", "n04152593": "display"},
    "shelter": {"n04191595": "building", "n04191943": "cover"},
    "table": {"n04379243": "", "n04379964": "dining"},
    "tank": {"n04388743": "storage", "n04389033": "army"},
    "vessel": {"n04530566": "watercraft", "n04531098": "for liquids"},
}


@dataclass(frozen=True)
class Synset:
    """A class of WordNet: its words, commonest first, and the classes right above it."""

    words: list[str]
    parents: list[str]


def main(data: Path) -> None:
    """Write both files into labels/. data is WordNet's data.noun."""
    lines = data.read_text(encoding="latin-1").splitlines()
    synsets = dict(synset(line) for line in lines if not line.startswith("  "))
    classes = check_classes(synsets)
    wanted: set[str] = set()
    add_with_ancestors(classes, synsets, wanted)
    marks = marks_by_id(synsets)
    check_marks(marks, wanted, classes)
    qualifiers = check_qualifiers(synsets, wanted, marks)
    with (LABELS / "wordnet.tsv").open("w", encoding="utf-8", newline="") as table:
        table.write("wnid\tparents\tname\tsynonyms\tmark\tqualifier\n")
        for wnid in sorted(wanted, key=lambda wnid: (depth(wnid, synsets), wnid)):
            words, parents = synsets[wnid].words, synsets[wnid].parents
            assert not any(set(word) & set(",|\t") for word in words), wnid
            cells = [wnid, "|".join(parents), words[0], ", ".join(words)]
            table.write("\t".join([*cells, marks.get(wnid, ""), qualifiers.get(wnid, "")]) + "\n")
    # "  12 Some words of the licence.  "
    licence = [line[2:].lstrip("0123456789")[1:].rstrip() for line in lines if line[:2] == "  "]
    (LABELS / "LICENSE-WordNet").write_text("\n".join(licence).strip() + "\n", encoding="utf-8")


def synset(line: str) -> tuple[str, Synset]:
    """Return the id and content of a line of data.noun; wndb(5WN) describes its fields."""
    fields = line.split(" ")
    count = int(fields[3], 16)
    words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
    pointers = fields[5 + 2 * count :]
    parents = [
        f"n{pointers[4 * index + 1]}"
        for index in range(int(fields[4 + 2 * count]))
        if pointers[4 * index] in ("@", "@i")
    ]
    return f"n{fields[0]}", Synset(words, parents)


def check_classes(synsets: dict[str, Synset]) -> list[str]:
    """Return ImageNet's ids, which have the same words in this WordNet."""
    with (LABELS / "imagenet_1001.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    classes = {row["wnid"]: row for row in rows if row["wnid"]}
    for wnid, row in classes.items():
        if wnid not in synsets or ", ".join(synsets[wnid].words) != row["synonyms"]:
            sys.exit(f"{wnid} is not {row['synonyms']}: is this WordNet 3.0?")
    return list(classes)


def add_with_ancestors(wnids: list[str], synsets: dict[str, Synset], wanted: set[str]) -> None:
    """Add the ids and all ids above them to wanted."""
    for wnid in wnids:
        if wnid not in wanted:
            wanted.add(wnid)
            add_with_ancestors(synsets[wnid].parents, synsets, wanted)


def depth(wnid: str, synsets: dict[str, Synset]) -> int:
    """Return the most steps from WordNet's uppermost class down to this one."""
    return max((depth(parent, synsets) + 1 for parent in synsets[wnid].parents), default=0)


def marks_by_id(synsets: dict[str, Synset]) -> dict[str, str]:
    """Return the mark of each id in MARKS, whose names must be WordNet's."""
    marks: dict[str, str] = {}
    for mark, text in MARKS.items():
        for entry in " ".join(text.split()).split(", "):
            wnid, name = entry.split(" ", 1)
            assert synsets[wnid].words[0] == name, entry
            assert wnid not in marks, entry
            marks[wnid] = mark
    return marks


def check_marks(marks: dict[str, str], wanted: set[str], classes: list[str]) -> None:
    """Stop where a mark is of no class in the table, or of one of ImageNet's own."""
    assert marks.keys() <= wanted, marks.keys() - wanted
    assert not marks.keys() & set(classes), marks.keys() & set(classes)


def check_qualifiers(
    synsets: dict[str, Synset], wanted: set[str], marks: dict[str, str]
) -> dict[str, str]:
    """Return the qualifier of each id, after a check that names of unmarked classes differ."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for wnid in wanted - marks.keys():
        by_name[synsets[wnid].words[0].casefold()].add(wnid)
    shared = {name: wnids for name, wnids in by_name.items() if len(wnids) > 1}
    listed = {name: set(qualifiers) for name, qualifiers in QUALIFIERS.items()}
    assert shared == listed, (shared.items() - listed.items(), listed.items() - shared.items())
    for qualifiers in QUALIFIERS.values():
        assert len(set(qualifiers.values())) == len(qualifiers), qualifiers
    return {wnid: text for group in QUALIFIERS.values() for wnid, text in group.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
