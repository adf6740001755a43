"""XMP sidecars as other programs write them."""

from __future__ import annotations

# One description with attributes, structures in attributes, an element that nobody knows.
DARKTABLE = """\
<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   exif:DateTimeOriginal="2024:05:01 10:00:00.000"
   xmp:Rating="3"
   xmpMM:DerivedFrom="a.jpg"
   darktable:xmp_version="5"
   darktable:history_end="2">
   <darktable:history>
    <rdf:Seq>
     <rdf:li darktable:num="0" darktable:operation="rawprepare" darktable:params="gz02eJ&amp;x"/>
     <rdf:li darktable:num="1" darktable:operation="exposure" darktable:params="0000&#10;1"/>
    </rdf:Seq>
   </darktable:history>
   <darktable:masks_history><rdf:Seq/></darktable:masks_history>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Urlaub</rdf:li>
     <rdf:li>animal</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>Urlaub|See</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

# A packet, languages, a structure, a comment and CDATA, and no keywords at all.
LIGHTROOM = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000">
<!-- kept -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   crs:Version="15.0" crs:Exposure2012="+0.35">
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">A</rdf:li><rdf:li xml:lang="de-AT">\u00c4</rdf:li></rdf:Alt></dc:title>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default"><![CDATA[1 < 2 & 3]]></rdf:li></rdf:Alt></dc:description>
   <Iptc4xmpCore:CreatorContactInfo rdf:parseType="Resource">
    <Iptc4xmpCore:CiEmailWork>a@b</Iptc4xmpCore:CiEmailWork>
   </Iptc4xmpCore:CreatorContactInfo>
   <crs:ToneCurvePV2012><rdf:Seq><rdf:li>0, 0</rdf:li><rdf:li>255, 255</rdf:li></rdf:Seq></crs:ToneCurvePV2012>
   <x1:odd xmlns:x1="http://example.invalid/ns/" x1:kind="?"><x1:part>1</x1:part></x1:odd>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""

# What exiftool is told to write for a sidecar like digiKam's.
DIGIKAM = (
    "-XMP-dc:Subject=Katze",
    "-XMP-dc:Subject=dog",
    "-XMP-lr:HierarchicalSubject=Tiere|Katze",
    "-XMP-digiKam:TagsList=Tiere/Katze",
    "-XMP-digiKam:TagsList=animal/domestic animal/dog",
    "-XMP-microsoft:LastKeywordXMP=Tiere/Katze",
    "-XMP-mediapro:CatalogSets=Tiere|Katze",
    "-XMP-acdsee:Categories=<Categories><Category>Tiere</Category></Categories>",
    "-XMP-dc:Title-de=Titel",
    "-XMP-dc:Title=Title",
    "-XMP-xmp:Rating=4",
    "-XMP-mwg-rs:RegionInfo={RegionList=[{Name=Anna,Type=Face,Area={X=0.5,Y=0.5,W=0.1,H=0.1}}]}",
)
