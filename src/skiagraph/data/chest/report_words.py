"""Words of radiology reports: names of findings, sides, zones and sizes, what is normal, and triggers of doubt and denial.

All are regular expressions for lower-case text with single spaces. `skiagraph.data.chest.reports` has the rules that use them.
"""

from __future__ import annotations

FINDINGS: dict[str, str] = {
    "effusion": r"(?<!pericardial )(?<!joint )(?:pleural )?effusions?|pleural fluid|(?:hemo|haemo|hydro)thorax|empyema"
    r"|blunt\w+ (?:of )?(?:[\w-]+ ){0,4}?costophrenic(?: \w+)?|costophrenic (?:\w+ )?(?:is |are )?(?:\w+ )?blunt\w+",
    "pneumothorax": r"(?:hydro)?pneumothora(?:x|ces)",
    "cardiomegaly": r"cardiomegaly|cardiac enlargement|(?:enlarge\w*|large|big|borderline)(?: of)?(?: the)? (?:heart|cardiac|cardio ?mediastinal)(?: size| silhouette)?"
    r"|(?:heart|cardiac|cardio ?mediastinal)(?: \w+)? (?:(?:is|are|appears?|remains?) )?(?:\w+ ){0,2}?(?:enlarged|large|borderline|prominent|big)",
    "edema": r"o?edema(?:tous)?|(?:vascular|venous|pulmonary|hilar) (?:congestion|engorgement)|cephali[sz]ation|kerley(?:'s)? b?",
    "consolidation": r"consolidations?|consolidat(?:ive|ed|ing)",
    "covid19": r"covid(?:-?19)?(?: pneumonia)?",
    "pneumonia": r"(?:broncho)?pneumonias?|pneumonitis|pneumonic",
    "infiltration": r"infiltrat(?:es?|ions?|ive)",
    "atelectasis": r"atelecta\w+|(?:lung|lobe|lobar) collapse|collapsed? (?:of )?(?:the )?(?:\w+ ){0,3}?(?:lungs?|lobes?)",
    "emphysema": r"(?<!subcutaneous )(?<!soft tissue )emphysema(?:tous)?|copd|(?:chronic )?obstructive (?:\w+ ){0,2}?disease|bullous|bullae?|blebs?",
    "fibrosis": r"fibrosis|fibrotic",
    "mass": r"(?<!body )mass(?:es)?(?! effect)",
    "nodule": r"nodul(?:es?|ar|arity)|micronodul\w+",
    "granuloma": r"granulomas?|granulomatous",
    "hernia": r"hernias?|herniation",
    "pleural_thickening": r"pleural (?:\w+ )?thickening|thicken\w+ of the pleura|pleural plaques?|apical cap(?:s|ping)?",
    "hyperinflation": r"(?:hyper-?|over-?)(?:inflat|expan|aerat|disten|lucen)\w+|(?:large|increased) lung volumes|lung volumes are (?:large|increased)"
    r"|flatten\w+ (?:of )?(?:the )?(?:\w+ )?(?:hemi)?diaphragms?|(?:hemi)?diaphragm\w*(?: is| are)? flatten\w+",
    "low volumes": r"(?:low|decreased|diminished|small|reduced|shallow) (?:lung|inspiratory) volumes?|lung volumes (?:(?:are|is|remain|appear) )*(?:\w+ ){0,3}?(?:low|decreased|diminished|small|reduced)"
    r"|small lungs|(?:hypo-?|under-?)(?:inflat|expan|aerat|ventilat)\w+",
    "smaller lung": r"volume loss|loss of (?:lung )?volume|smaller (?=(?:left|right) lung)",
    "fracture": r"fractur(?:es?|ed)",
    "tuberculosis": r"tubercul(?:osis|ous)|tb",
    "interstitial": r"interstitial (?:\w+ ){0,2}?(?:disease|markings?|prominence|thickening|changes?|pattern|fibrosis)|coarse\w* interstitial|reticula\w+|reticulonodular"
    r"|bronchiectasis|bronchiectatic|peribronchial \w+|bronchial (?:wall )?(?:thickening|cuffing)|septal lines|honeycomb\w+",
    "scarring": r"scar(?:s|red|ring)?|cicatri\w+",
    "calcification": r"calcifi(?:ed|c|cations?)|calcium",
    "cavity": r"cavit(?:ary|ation|ating|ated)|(?<!thoracic )(?<!pleural )(?<!chest )(?<!abdominal )(?<!peritoneal )cavit(?:y|ies)",
    "spine": r"(?:dextro|levo|kypho|rota)*scolio(?:sis|tic)|kyphosis|kyphotic|osteophyt\w+|spondyl\w+|spurring|dis[ck] space narrowing|dish|(?:dextro|levo)curvature|endplate (?:\w+ )?changes"
    r"|degenerat(?:ive|ion)(?![\w ,]{0,80}(?:shoulder|acromio|glenohumeral|humer|hip|knee|\bac\b))(?: \w+)?(?: changes?| disease| spurring)?",
    "aorta": r"(?:tortuous|ectatic|unfolded|uncoiled|dilated|aneurysmal|atheroscler\w+)(?: \w+){0,2} aort\w+|tortuosity|ectasia|unfolding of the (?:\w+ )?aort\w+|atheroscler\w+|aortic aneurysm"
    r"|aort\w+ (?:(?:is|appears|remains) )?(?:\w+ ){0,2}?(?:tortuous|ectatic|dilated|unfolded|uncoiled|aneurysmal)",
    "device": r"(?:endotracheal|nasogastric|orogastric|enteric|feeding|chest|thoracostomy|tracheostomy|et|ng|og|gastric|gastrostomy) tubes?|(?:tracheo|thoraco)stomy"
    r"|(?:\w+ )?catheters?|picc(?: lines?)?|pacemakers?(?: leads?)?|pacer|pacing|a?icd|defibrillator|(?:central|venous|arterial|subclavian|jugular)(?: venous)? lines?"
    r"|port-?a-?cath\w*|(?:medi|chemo|infusa)-?port|(?:chest|infusion|venous) ports?|generator|leads?|electrodes?|stimulator|sternotomy wires?|(?:sternal |cerclage )wires?"
    r"|clips?|sutures?|staples|stents?|coils?|hardware|prosthe\w+|plates?|screws?|rods?|anchors?|(?:ivc|caval) filter|(?:artificial|replaced|mechanical) valve|valve replacement"
    r"|tips?(?! of the (?:scapula|spleen|liver|acromion))|shunt(?: \w+)?|tubing|implants?|occluder|closure device|(?:monitoring|medical|implanted) devices?|loop recorder",
    "surgery": r"post-?\s?(?:surgical|operative|op)\b(?: changes?)?|surgical changes?|sternotomy(?! wires?)|thoracotomy|cabg|bypass(?: graft\w*)?|surgery|arthroplasty|laminectomy"
    r"|(?:lob|pneumon|mast|cholecyst|splen|corp|thyroid)ectomy|resection|fusion|reconstructed|transplant\w*",
    "elevated_diaphragm": r"(?:elevat\w+|raised) (?:of )?(?:the )?(?:\w+ )?(?:hemi)?diaphragms?|(?:hemi)?diaphragm (?:is |remains )?(?:\w+ )?(?:elevat\w+|raised)|eventration",
    "deformity": r"deformit(?:y|ies)",
    "adenopathy": r"(?:lymph)?adenopathy|enlarged (?:\w+ )?(?:lymph )?nodes?",
    "malignancy": r"metasta\w+|malignan\w+|carcinoma\w*|cancers?|neoplas\w+|lymphoma\w*|tumou?rs?|sarcoma\w*",
    "opacity": r"(?:airspace|air space|air-space|lung|pulmonary|interstitial|patchy|focal|hazy|ground[- ]glass)? ?"
    r"(?:opacit(?:y|ies)|opacifi\w+|air-? ?space (?:disease|process)|ground[- ]glass|(?<!bone )(?<!bony )(?<!osseous )densit(?:y|ies))",
    "lesion": r"lesions?",
}
"""Name of a finding to the words that state it; where two claim a word, the first in the table has it.

Not all are taught to a model, see `captions.finding_phrase`; names that are have the spelling of `captions.WORDINGS`.
"""

LASTING = ("surgery", "device", "fracture", "granuloma", "scarring", "calcification", "deformity", "spine")
"""Findings whose traces stay, so that a prior, healed or old one is present. A history of one is history nonetheless."""

PROCEDURES = ("surgery", "device")
"""Findings that a history or a status post leaves in the picture."""

SIGNS = {"effusion": r"blunt", "cardiomegaly": r"borderline"}
"""Words of a finding that are only a sign of it: the finding is present and uncertain."""

ABNORMAL = (
    r"abnormal(?:it(?:y|ies)|ly)?|enlarge\w*|widen\w*|shift(?:ed)?|deviat\w+|displace\w*|dislocat\w+|subluxat\w+|fullness|prominen(?:t|ce)|thicken\w+|blunt\w+"
    r"|elevat(?:ed|ion)|dilat\w+|distend\w+|distention|lucen(?:t|cy|cies)|collaps\w+|compress\w+|wedg\w+|erosi\w+|lytic|sclero\w+|destruct\w+|osteop(?:enia|enic|orosis|orotic)"
    r"|deminerali[sz]\w+|mass effect|foreign bod(?:y|ies)|free (?:\w+ )?(?:air|gas)|pneumoperitoneum|pneumomediastinum|aspiration|infect\w+|inflamm\w+|h(?:a)?emorrhage|contusion"
    r"|injur(?:y|ies)|congest\w+|engorg\w+|crowd\w+|loss of (?:\w+ )?height|height loss|bulg\w+|asymmetr\w+|coarse\w*|haz(?:y|iness)|streak\w*|indistinct\w*|obscur\w+|(?<!nipple )shadow\w*"
    r"|cysts?|cystic|aneurysm\w*|dissection|dextrocardia|situs inversus|anomal\w+|pectus|excavatum|carinatum|disease|syndrome|abscess\w*|ards|sarcoid\w*|silicosis|asbesto\w+"
    r"|heart failure|chf|subcutaneous emphysema|pericardial effusion|hypertrophy|arthr(?:itis|itic|osis|opathy)|degenerative|narrow\w+|irregular\w*|bronchitis|embol\w+|infarct\w*"
    r"|tortuous|ectatic|hypertension|stones?|cholelithiasis|ileus|obstruct\w+|(?:absent|missing) (?:\w+ )?(?:breast|rib|lobe|lung)|not (?:\w+ly )?(?:a )?(?:clear|normal|unremarkable)"
    r"|(?:diameter|markings) (?:is |are )?increased|lobulat\w+|fissural fluid|plaques?|azygos lobe|cervical ribs?|curvature|chronic (?:\w+ )?changes|\w*dystrophy|jewelry"
    r"|piercings?|rings?|shrapnel|bullets?|increased (?:\w+ )?(?:ap|markings|diameter|attenuation)"
)
"""Words of abnormal things that `FINDINGS` has no name for; a report with one of them, not denied, is no normal chest."""

NORMAL_CHEST = (
    r"(?<!prior )(?<!previous )\b(?:normal|negative|unremarkable|clear)(?: \w+){0,2}? (?:chest|study|exam\w*|radiographs?|x-?rays?|x-xxxx|cxr)\b(?! wall)"
    r"|\b(?:chest|study|examination|exam|radiograph) (?:\w+ ){0,2}?(?:normal|unremarkable|negative)\b|^\W*(?:normal|unremarkable|negative)\W*$|\bno findings?\b"
)
"""Statements that the chest is normal; `NOTHING_ACUTE` has others."""

NOTHING_ACUTE = (
    r"\b(?:no|without|negative(?: for)?)\b(?: (?:evidence|definite|radiographic|radiographically|of|for|other|any|new|xxxx|convincing|visible|plain|film))*"
    r" (?:acute|active)((?: [\w/-]+){0,5}? (?:diseases?|abnormalit(?:y|ies)|process(?:es)?|findings?|patholog(?:y|ies)|changes?))\b"
    r"|\bno (?:\w+ ){0,3}?abnormalit(?:y|ies)\W*$"
)
"""A denial of acute disease; it must not speak of `PARTS` alone."""

PARTS = r"bony|osseous|bones?|skelet\w+|ribs?|spine|vertebra\w*|fracture|mediastin\w+|soft tissue|air-? ?space|alveolar|interstitial|tubercul\w+|pleura\w*|abdom\w+|shoulder|sternal"

CLEAR_LUNGS = (
    r"\b(?:lungs?|lung (?:fields?|zones?|parenchyma|bases|apices|xxxx)|parenchyma)\b(?: xxxx)?(?:,? (?:are|is|appears?|remains?|seems?|to be|both|grossly|otherwise|well|normally|bilaterally"
    r"|hyper\w+|hypo\w+|under\w+|slightly|mildly|expanded|inflated|aerated|but|symmetrically|and|xxxx|relatively|essentially|fully|well-\w+|now|again|also))*? clear(?!(?:ed|ing))\b"
    r"|(?<!not )\bclear (?:\w+ )?lungs?\b"
)
CLEAR_ANGLES = r"\bcostophrenic (?:\w+ )?(?:\w+ )?(?:are |is |remain )?(?:\w+ )?(?:clear|sharp|preserved)\b"
NORMAL_HEART = (
    r"\b(?:heart|cardiac|cardio-? ?mediastinal|cardio mediastinal)\b[\w ,]*?(?<!not )(?<!\bab)\b(?:normal|unremarkable|within normal limits|not enlarged|not significantly enlarged|not remarkable)\b"
    r"|\bnormal (?:\w+ )?(?:\w+ )?(?:heart|cardiac|cardio-? ?mediastinal)\b"
)

STATED_ANYWAY = (
    r"\b(?:no|not|without)(?: (?:any|significant|interval|definite|substantial|appreciable|obvious|xxxx))* (?:increase|decrease|change|changes|changed|worsening|improvement|progression)\b"
    r"|\bnot (?:previously |well |clearly |definitely )?(?:seen|present|identified|visible|visualized|noted|appreciated|evident) (?:on|in|at) (?:the |her |his )?(?:prior|previous|comparison|earlier|old)\b|\bnot previously\b"
    r"|\bnot only\b|\bno longer(?= (?:as|so)\b)"
    r"|\b(?:document|ensure|confirm|demonstrate|assess|until|show|for|to)(?: \w+){0,2} (?:resolution|clearing)(?: of)?\b"
    r"|\b(?:not|incomplete|incompletely|partial|partially|nearly|near|almost)(?: \w+)? (?:resol(?:ved|ution)|cleared|clearing)(?: of)?\b"
)
"""Words that look like a denial and are none."""

DENIED_BEFORE = (
    r"\b(?:no|without|neither|nor|denies)\b|\bnegative(?: for|(?= acute))\b|\b(?:free|clear|absence|resolution|clearing|removal) of\b|\bresolved\b|\brather than\b|\bexclud(?:es|ed|ing)\b"
    r"|\bnot (?:\w+ly )?(?:show|demonstrate|identify|see|reveal|have|suggest|represent|a|an|any|due to|consistent with|compatible with|suggestive of|typical of)\b"
    r"|\bno longer\b|\bunlikely\b|\bnot (?:\w+ly )?$|\bnot(?: [\w]+){0,3} (?:appearance|evidence|findings?) of\b"
)
DENIED_AFTER = (
    r"\b(?:is|are|was|were|been|be)? ?(?:not|no longer) (?:\w+ly )?(?:seen|identified|present|visible|visuali[sz]ed|evident|demonstrated|noted|appreciated|apparent|detected|found|shown)\b"
    r"|\b(?:is|are|was|were) (?:absent|excluded|unlikely|gone|removed|ruled out)\b|\b(?:has|have) (?:been )?(?:\w+ly )?(?:resolved|cleared|disappeared|removed|excluded|gone)\b|\bunlikely\b"
    r"|\b(?:is|are|has|have)? ?(?:now |completely |fully )?resolved\b"
)
NORMAL_AFTER = r"\b(?:is|are|appears?|remains?)(?: \w+)? (?:normal|unremarkable)\b|\bwithin (?:the )?(?:limits of normal|normal limits)\b"
"""What denies a finding that is a part of everybody's chest grown wrong, but not one of `LASTING`."""

NOT_EXCLUDED_BEFORE = (
    r"\b(?:cannot|can not|can't|could not|unable to|difficult to|not|to|should|must)(?: \w+ly)? (?:rule out|exclude)\b"
)
NOT_EXCLUDED_AFTER = r"\b(?:cannot|can not|can't|could not|may not|should|must|not|to)(?: \w+ly)?(?: be)?(?: \w+ly)? (?:excluded|ruled out)\b"
HEDGED_BEFORE = (
    r"\bpossib(?:le|ly|ility)\b|\bprobabl[ey]\b|\b(?:most |more |less )?likely\b|\bmay\b|\bmight\b|\bcould\b|\bquestion\w*|\bsuspic\w+|\bsuspect\w*|\bconcern\w*|\bsuggest\w*"
    r"|\bperhaps\b|\bpresum\w+|\bconsider(?:ed|ation of)?\b|\bequivocal\b|\bborderline\b|\bdifferential\b|\bversus\b|\bappears? to represent\b|\bindetermina\w+"
    rf"|\brule out\b|\br/o\b|\bdoubtful\b|{NOT_EXCLUDED_BEFORE}"
)
HEDGED_AFTER = (
    rf"{NOT_EXCLUDED_AFTER}|\b(?:may|might|could) be (?:present|considered)\b"
    r"|\b(?:is|are|remains?|was|were|be|also|still|considered) (?:\w+ )?(?:possible|likely|probable|suspected|questioned|questionable|considered|a possibility|a consideration|in question)\b"
    r"|\b(?:possible|likely|questionable|suspected)\W*$|\bversus\b"
)
HISTORY = r"\bhistory of\b|\bh/o\b|\bhx of\b|\bstatus[- ]post\b|\bs/p\b|\b(?:evaluat\w+|assess) for\b|\bsensitive (?:in|for|to)\b"
"""What was, and what another examination is for."""
PRIOR = r"\b(?:prior|previous|past|former|old|remote|healed|treated)\b(?! (?:\w+ )?(?:study|studies|exam\w*|films?|radiographs?|chest|comparison|ct|x-?rays?|imaging|reports?)\b)"
"""An adjective of the finding that follows within three words; lasting findings are present all the same."""

NEW_CLAUSE = (
    r"\bbut\b(?! (?:\w+ )?clear\b)|\bhowever\b|\balthough\b|\bthough\b|\bexcept(?:ing)?(?: for)?\b|\baside from\b|\bapart from\b|\bother than\b|, which\b(?! (?:has|have|is|are) (?:now )?(?:resolved|cleared|no|not)\b)|\bwhereas\b|\bwhile\b|\byet\b"
    r"|(?<!that )(?<!evidence )(?=\bthere(?:'s| (?:is|are|has|have|may|was|were|remains?)\b))|(?:^|\s)\d{1,2}[.)](?=\s|$)"
)
"""Where a sentence falls into clauses; no denial or doubt reaches over it."""

JOINED_WITH = r"(?<!consistent )(?<!compatible )(?<!associated )(?<!keeping )(?<!concordant )(?<!correlated )(?<!correlation )(?<!concerned )\bwith\b"
VERBS = r"(?:is|are|has|have|was|were|appears?|remains?|persists?|cannot|may|could|might)"
SEEN = r"(?:not |no longer )?(?:been )?(?:\w+ly )?(?:seen|identified|present|visible|visuali[sz]ed|evident|demonstrated|noted|appreciated|apparent|detected|found|shown)"
END_OF_DENIAL = (
    rf"{JOINED_WITH}|(?:,|\band\b) (?=(?:the )?(?!which\b|that\b)(?:[\w-]+ ){{1,4}}?{VERBS}\b(?! {SEEN}))"
    r"|(?:,|\band\b) (?=(?:again )?(?:stable|unchanged|persist\w+|residual|known|worsening|improv\w+|redemonstrat\w+)\b)"
)
"""Where a denial or a doubt ends inside a clause: another subject and verb, or what goes on as before."""

HEADINGS = r"(?:clinical )?(?:history|indications?|information|data)|reason for (?:the )?\w+|comparisons?|techniques?|procedures?|exam(?:ination)?(?: date)?|views?"
"""Sections that state nothing about this picture's findings."""

STATEMENTS = r"findings?|impressions?|conclusions?|report|chest|lungs?|heart|interpretation"

TITLES = r"impressions?|findings?|conclusions?|report|interpretation|summary"
"""Headings of statements that are no part of them; other short ones are: "heart: enlarged"."""

NONE = r"none|absent|negative|nil|no"

THINGS = (
    r"stud(?:y|ies)|exams?|examination|films?|radiographs?|images?|comparison|ct|x-?rays?|fractures?|surg\w+|scars?"
)
"""Things, not patients, that may be so many days old."""

UNDERSTOOD = (
    r"\bcompar\w+|\bviews?\b|\bprojections?\b|\bfrontal\b|\blateral\b|\bnormal\b|\bunremarkable\b|\bnot remarkable\b|\bintact\b|\bclear\b|\bstable\b|\bunchanged\b|\bwithin normal\b"
    r"|\bnot enlarged\b|\b(?:pa|ap|portable|supine|upright|adult|child|male|female|man|woman|boy|girl|years?|months?|days?)\b|\bimpression\b|\bfindings?\b|\bexpanded\b|\baerated\b"
    r"|\binflated\b|^\W*no\b|\bwithout\b|\bmidline\b|\bimages?\b|^[\d\W]*chest$|\bradiographs?\b|\bx-(?:ray|xxxx)s?\b|\bfollow-?\s?up\b|\brecommend\w*|\bcorrelat\w+|\bobtained\b|\bimag\w+"
    r"|\bexam(?:ination)?\b|\bstudy\b|\bstudies\b|\bquality\b|\brotat\w+|\bexposure\b|\binspirat\w+|\btechnique\b|\blimited\b|\bsimilar\b|\bpreserved\b|\bsharp\b|\bsymmetric\w*|\bvisuali[sz]ed\b"
    r"|\bupper limits\b|\bnegative\b|\bdiscussed\b|\bdictated\b|\bhistory\b|\bimproved aeration\b|\bnot (?:seen|available|identified)\b"
    r"|\bmaintained\b|\bnotif\w+|\bend of report\b|\btelephone\b|\bnipple shadows?\b"
    r"|^(?:(?:xxxx|\d+|if|the|this|a|an|of|in|at|p|and|on|is|are|otherwise|specifically|addition|also|again)\b\W*)+$"
    r"|^(?:with)?in (?:the )?(?:[\w-]+ ){0,4}(?:lobes?|lungs?|bases?|apex|zones?|chest|hemithorax)$"
)
"""Words of clauses that state no finding and say nothing that is left out: normal things, views, quality, comparisons."""

OTHER_LANGUAGES = (
    r"\b(?:kein\w*|nicht|ohne|und|mit|der|das|dem|ein(?:e[rmns]?)?|ist|sind|beid\w*|link(?:e[rmns]?|s\w*)|recht(?:e[rmns]?|s\w*)|zeichen|verdacht|pas de|sans|avec|les|une|droite?|gauche"
    r"|sin|con|del|los|las|una|derech\w+|izquierd\w+|senza|della|destr[oa]|sinistr[oa]|geen|zonder|\w*[äöüß]\w*)\b"
)
"""Words that English reports lack. What stands beside them is not read: their denials would be missed."""

ABBREVIATIONS = {
    "rul": "right upper lobe", "rml": "right middle lobe", "rll": "right lower lobe", "lul": "left upper lobe",
    "lll": "left lower lobe", "ptx": "pneumothorax", "bibasilar": "bilateral basilar", "biapical": "bilateral apical",
    "vs": "versus",
}  # fmt: skip
SIDES = {
    "bilateral": r"\bbilateral(?:ly)?\b|\bboth\b|\b(?:right|left) (?:and|greater than|more than|worse than|>) (?:the )?(?:left|right)\b|\b(?:lung )?(?:bases|apices)\b"
    r"|(?<!right )(?<!left )\b(?:upper|lower|mid|middle) (?:lung )?(?:lobes|zones)\b|\b(?:in|of|throughout|within) (?:the |both )?lungs\b|\blungs\b(?= opacit)",
    "right": r"\bright(?:-sided)?\b(?! (?:heart|ventric|atri))",
    "left": r"\bleft(?:-sided)?\b(?! (?:heart|ventric|atri))",
}
ZONES = {
    "upper": r"\bupper\b|\bapic\w+\b|\bapex\b",
    "mid": r"\bmid(?:dle)?\b|\bmid(?:zone|lung)\b|\blingula\w*\b|\bperihilar\b|\bhilar\b",
    "lower": r"\blower\b|\bbas(?:e|es|al|ilar)\b|\bcostophrenic\b",
}
SEVERITIES = {
    "small": r"\b(?:small|tiny|minimal|mild|mildly|trace|minor|slight|subtle|little)\b",
    "moderate": r"\bmoderate(?:ly)?\b",
    "large": r"\b(?:large|severe|massive|extensive|marked|markedly|big|dense|gross)\b",
}
HISTORY_ENDS = r",|\bnow\b|\btoday\b|\bcurrently\b|\bpresent(?:s|ing)\b"
COMPARED = r"\b(?:compared (?:to|with)|than|since|similar to|unchanged from|changed? from)(?: the| a)? $"
"""What before a prior says that it is the other picture."""

CHILD_WORDS = r"\b(?:child|boy|girl|infant|toddler|neonate|newborn|p(?:a)?ediatric|baby)\b"
ADULT_WORDS = r"\b(?:adult|man|woman|elderly)\b"
