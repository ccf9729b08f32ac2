"""Cut Inter down to the font of the window: digits of one width, only the characters it needs, TrueType outlines."""

import sys

from fontTools import subset
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, newTable

CHARACTERS = [
    *range(0x20, 0x7F),
    *range(0xA0, 0x180),
    *range(0x391, 0x3CA),
    *range(0x2010, 0x2027),
    *range(0x2070, 0x208F),
    *range(0x2190, 0x219A),
    *map(ord, "\u202f′″€™−≈≠≤≥∞⌘⇧⏎●○■□▲▶▼◀✓★☆"),
]


def main(source: str, target: str, name: str) -> None:
    font = TTFont(source)
    use_even_digits(font)
    options = subset.Options(layout_features=[], name_IDs=[0, 1, 2, 3, 4, 5, 6, 7, 13, 14], glyph_names=False)
    worker = subset.Subsetter(options)
    worker.populate(unicodes=CHARACTERS)
    worker.subset(font)
    use_truetype_outlines(font)
    for record in font["name"].names:
        if record.nameID in (1, 4, 6):
            record.string = name.replace(" ", "") if record.nameID == 6 else name
    font.save(target)


def use_even_digits(font: TTFont) -> None:
    """What the feature `tnum` does, for a window that knows no font features."""
    table = font["GSUB"].table
    features = [record.Feature for record in table.FeatureList.FeatureRecord if record.FeatureTag == "tnum"]
    swaps = {}
    for index in {index for feature in features for index in feature.LookupListIndex}:
        for rule in table.LookupList.Lookup[index].SubTable:
            swaps.update(getattr(rule, "ExtSubTable", rule).mapping)
    for characters in font["cmap"].tables:
        characters.cmap.update({code: swaps.get(glyph, glyph) for code, glyph in characters.cmap.items()})


def use_truetype_outlines(font: TTFont) -> None:
    """Cubic (CFF) outlines as quadratic ones, which every rasteriser draws."""
    glyphs, outlines = font.getGlyphSet(), newTable("glyf")
    outlines.glyphOrder, outlines.glyphs = font.getGlyphOrder(), {}
    for name in outlines.glyphOrder:
        pen = TTGlyphPen(glyphs)
        glyphs[name].draw(Cu2QuPen(pen, 1.0, reverse_direction=True))
        outlines.glyphs[name] = pen.glyph()
    font["glyf"], font["loca"] = outlines, newTable("loca")
    counts = "TwilightPoints Storage FunctionDefs InstructionDefs StackElements SizeOfInstructions ComponentElements"
    counts += " Points Contours CompositePoints CompositeContours ComponentDepth"
    vars(font["maxp"]).update({f"max{count}": 0 for count in counts.split()}, tableVersion=0x00010000, maxZones=1)
    outlines.compile(font)
    for tag in ("CFF ", "VORG", "GSUB", "GPOS", "GDEF", "STAT"):
        if tag in font:
            del font[tag]
    font["post"].formatType, font.sfntVersion = 3.0, "\0\1\0\0"


if __name__ == "__main__":
    main(*sys.argv[1:])
