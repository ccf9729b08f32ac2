"""Inter -> assets/Inter-UI.ttf: digits of one width, only the characters a window needs, quadratic outlines."""

import sys
from fontTools import subset
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, newTable

source, target, family = sys.argv[1:]
font = TTFont(source)
lookups = [
    l for r in font["GSUB"].table.FeatureList.FeatureRecord if r.FeatureTag == "tnum" for l in r.Feature.LookupListIndex
]
swaps = {}
for index in set(lookups):
    for table in font["GSUB"].table.LookupList.Lookup[index].SubTable:
        table = getattr(table, "ExtSubTable", table)
        swaps.update(table.mapping)
for table in font["cmap"].tables:
    for code, glyph in list(table.cmap.items()):
        table.cmap[code] = swaps.get(glyph, glyph)
wanted = [
    *range(0x20, 0x7F),
    *range(0xA0, 0x180),
    *range(0x391, 0x3CA),
    *range(0x2010, 0x2027),
    0x202F,
    0x2032,
    0x2033,
    *range(0x2070, 0x208F),
    0x20AC,
    0x2122,
    *range(0x2190, 0x219A),
    0x2212,
    0x2248,
    0x2260,
    0x2264,
    0x2265,
    0x221E,
    0x2318,
    0x21E7,
    0x23CE,
    0x25CF,
    0x25CB,
    0x25A0,
    0x25A1,
    0x25B2,
    0x25B6,
    0x25BC,
    0x25C0,
    0x2713,
    0x2605,
    0x2606,
]
options = subset.Options(
    layout_features=[], name_IDs=[0, 1, 2, 3, 4, 5, 6, 7, 13, 14], hinting=False, notdef_outline=True, glyph_names=False
)
worker = subset.Subsetter(options)
worker.populate(unicodes=wanted)
worker.subset(font)
order = font.getGlyphOrder()
glyphs = font.getGlyphSet()
glyf = newTable("glyf")
glyf.glyphOrder, glyf.glyphs = order, {}
for name in order:
    pen = TTGlyphPen(glyphs)
    glyphs[name].draw(Cu2QuPen(pen, 1.0, reverse_direction=True))
    glyf.glyphs[name] = pen.glyph()
font["glyf"], font["loca"] = glyf, newTable("loca")
maxp = font["maxp"]
maxp.tableVersion = 0x00010000
for field in (
    "maxZones",
    "maxTwilightPoints",
    "maxStorage",
    "maxFunctionDefs",
    "maxInstructionDefs",
    "maxStackElements",
    "maxSizeOfInstructions",
    "maxComponentElements",
    "maxPoints",
    "maxContours",
    "maxCompositePoints",
    "maxCompositeContours",
    "maxComponentDepth",
):
    setattr(maxp, field, 1 if field == "maxZones" else 0)
glyf.compile(font)
for tag in ("CFF ", "VORG", "GSUB", "GPOS", "GDEF", "STAT"):
    if tag in font:
        del font[tag]
font["post"].formatType = 3.0
font.sfntVersion = "\000\001\000\000"
for record in font["name"].names:
    if record.nameID in (1, 4):
        record.string = family
    if record.nameID == 6:
        record.string = family.replace(" ", "")
font.save(target)
