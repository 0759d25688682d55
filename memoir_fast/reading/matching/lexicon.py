"""What English question words mean to the router: words of one meaning, words that exclude each other, what is asked for.

An aid beside the activations, which know little of "runs" and "chief executive of": a shared meaning counts as a weaker match
than the same word. In a language that these lists do not know, nothing here applies and the codes and spellings decide.
"""

from __future__ import annotations

import re
from functools import lru_cache

# One meaning a line; a word may stand in several. "*" at the end: any word that begins so.
MEANINGS = """
ceo chief executive boss head* lead* leader run runs running ran director manag* charge charged president principal top superior govern* captain chair*
responsib* charge owner look* looks maintain* upkeep care handle* team maintenance keeper custodian call* page tasked
found* creat* establish* start* set originat* launch* incept* form* begin* begun began debut* introduc* open* initiat* commence*
own* belong* proprietor parent property possess* subsidiary holder
live* lived inhabit* resident* population populous people reside* habitat occur* home
work* job occupation profession employ* living career staff workforce headcount payroll hire* colleague*
born birth* native come* came origin* native birthplace birthday
die* died death pass* passed away dead
marr* spouse wife husband partner wed*
father* dad child* son daughter parent*
mother mum mom parent* child*
price* cost* pay* charge* fee* expens* sell* sold worth amount euros dollars rate tariff money
money currency pay* cash tender banknote* coin*
earn* revenue turnover sales income profit
make* made maker manufactur* produc* build* built builder develop* create* supplier brand
write* wrote written author* pen penned writer playwright novelist text
direct* film-maker filmmaker director shot
star* actor actress play* role lead* cast act* acted hero character
sing* singer vocal* sang song band
publish* issue* press release* brought bring put
compos* music* score soundtrack song*
locat* situated place* where find found lie* lies site spot position position* stand* sit* kept keep store* stored base* basis
headquarter* base* office* seat operate*
address* street locat* reach* host* resolve* ip
city town municipality capital place village
capital seat govern*
country nation* state land
language* speak* spoke* tongue speaker* written communicat*
citizen* nationality national passport country
phone* telephone* call* number* dial* hotline extension reach*
email* mail* e-mail mailbox write
date* day when year time month century
year* annual* yearly
month* monthly
week* weekly
deadline due until by latest closing
open* start* begin* early
close* closing shut* end* late locked
start* begin* commence* begins depart* leave* leaves set
duration long last* lasts time take* takes
often frequen* interval every regular* times repeat* after
fast speed quick* velocity rapid*
heavy weigh* weight mass kilo* kilos
big large* size* tall* high* length dimension* capacity huge
tall* high* biggest tallest highest largest
capacity seat* hold* holds fit* people room place* many
limit* max* maximum most cap* capped upper bound large* largest allowed
min* minimum least lowest
vacation* holiday* leave off
password* passcode passphrase key code login log secret
wifi wireless wi-fi network internet wlan online
port* listen* tcp reachable
command* type run enter instruction
restart* reboot* anew again
deploy* roll ship release* publish
version* release* latest newest current
config* setting* option*
log* logs logged
database* data storage stor* db records
memory ram gigabytes storage
licen* terms
host* hosted region cloud deployed running server*
timeout* wait* abort* give
win* won winner* victor* champion* first title
award* prize* medal honour* honor* receiv* got given
hold* held take* place venue happen* occur* hall meet
organi* host* arrang* plan* put
speak* speaker* talk* keynote address
sponsor* financ* pays money
attend* visitor* guest* crowd participant* count came
attend* stud* university college school alma educat* degree graduat*
play* perform* instrument
play* player team club side appear* position field
position* role* function job office title post
religio* faith worship* belief* affiliat*
party politic* candidate
field* area* domain speciali* expertise subject work* activity
war conflict battle fight* fought combat soldier serv*
colour* color* shade paint*
warrant* guarantee* cover* covered
batter* charge*
engine* motor* power* driv*
design* architect* drew look
architect* design* built build*
storage capacity hold* holds memory
approv* sign* signature green agree* permission yes cleared consent
form* sheet paperwork document*
contact* ask* question* help person turn inquir*
notice advance ahead beforehand early
penalt* fine* punish* breach
document* describ* read text page written
success* replac* superseded instead after follow*
order* client customer request*
contain* content* inside filled holds include* consist*
status state far stage currently progress
name* called call* known title
kind* type* sort* categor* class* genre classif*
instance* example* member* kind type
eat* diet food feed* feeds meal* dish* treat prefer*
cook* chef kitchen
use* used using purpose serve* good utili*
discover* found describ* first
orbit* revolv* circl* body parent
star* constellation sky
chromosome gene genome
famil* order genus species taxon* parent
river* stream* flow* run* cross*
mountain* peak* summit*
continent* part
building* tower* skyscraper*
twin* sister* partner*
independ* sovereign freedom
mascot symbol
teach* instructor* teacher* lead* give* trainer class
dose* dosage amount drops
temperature degrees hot boil*
park* parking car
deliver* shipping ship*
return* send back
side effects
employee* staff worker* colleague*
upload* file*
flies fly airline* carrier flight*
channel* network* air* broadcast* station aired
series saga franchise part
county district region province constituency territor* administrative electoral
end* ended abolish* dissol* close* closed
child* kid* son daughter
lawyer* attorney* legal law
slogan motto tagline
"""

# Groups of words of which one excludes the others.
CONTRASTS = """
monday tuesday wednesday thursday friday saturday sunday
mondays tuesdays wednesdays thursdays fridays saturdays sundays
january february march april may june july august september october november december
first second third fourth fifth sixth seventh eighth ninth tenth
one two three four five six seven eight nine ten eleven twelve twenty
north south east west
northern southern eastern western
morning afternoon evening night
spring summer autumn winter
upper lower
senior junior
men women
old new
red blue green yellow orange black white purple brown pink grey
primary secondary tertiary
staging production development testing
daily weekly monthly quarterly yearly
day week month quarter
left right
import export
upload download
uploads downloads
minimum maximum
largest smallest
first last
father mother
mother daughter
husband sister brother
wife sister brother
born die died
birth death
indoor outdoor
open close
opens closes
inbound outbound
departure arrival
adults children
employee contractor customer visitor
employees contractors customers visitors
who when where why
"""

_TYPES = (
    ("person", re.compile(r"\b(who|whom|whose|who's|person|woman|man|name the|boss|by whom|colleague)\b")),
    ("time", re.compile(r"\b(when|what (day|year|date|time|hour|month)|which (day|year|date|month|weekday)|what is the (date|year|day)|date of|year|what's the (date|time|deadline)|deadline|since when|until when|how late|how early|opening|closing)\b")),
    ("place", re.compile(r"\b(where|what (city|country|place|town|location|state|street)|which (city|country|place|town|state|street|floor|spot)|birthplace|location|headquarter\w*|address|venue|situated|located|in the (city|town|country) of)\b")),
    ("money", re.compile(r"\b(how much (does|do|is|must|money|did)|price|cost|costs|fee|charge|expensive|salary|revenue|turnover)\b")),
    ("number", re.compile(r"\b(how many|number of|population|headcount|how (big|large|tall|heavy|fast|high|populous))\b")),
    ("span", re.compile(r"\b(how (long|often|frequently|old|far|regularly)|duration|interval|life span|warranty)\b")),
    ("way", re.compile(r"\b(how (do|can|should|is|to|did)|command)\b")),
    ("reason", re.compile(r"\b(why|reason|purpose|used for|explain|describe|summari[sz]e|translate|write a|tell me a joke)\b")),
)  # fmt: skip
TYPES = [name for name, _ in _TYPES]

_EXACT: dict[str, int] = {}
_STEMS: list[tuple[str, int]] = []
for _number, _line in enumerate(MEANINGS.strip().splitlines()):
    for _one in _line.split():
        if _one.endswith("*"):
            _STEMS.append((_one[:-1], 1 << _number))
        else:
            _EXACT[_one] = _EXACT.get(_one, 0) | 1 << _number
_GROUPS: dict[str, list[tuple[int, int]]] = {}
for _number, _line in enumerate(CONTRASTS.strip().splitlines()):
    for _member, _one in enumerate(_line.split()):
        _GROUPS.setdefault(_one, []).append((_number, _member))
MEANING_BITS = 128 if len(MEANINGS.strip().splitlines()) <= 128 else 192
CONTRAST_BITS = 64
assert len(CONTRASTS.strip().splitlines()) <= CONTRAST_BITS


@lru_cache(1 << 16)
def meanings(word: str) -> int:
    """Bits of the meanings that a word in small letters may have."""
    bits = _EXACT.get(word, 0)
    for stem, bit in _STEMS:
        if word.startswith(stem) and len(word) <= len(stem) + 5:
            bits |= bit
    return bits


@lru_cache(1 << 16)
def contrasts(word: str) -> int:
    """Bits of the groups of excluding words that a word belongs to."""
    return sum(1 << number for number, _ in _GROUPS.get(word, ()))


@lru_cache(1 << 14)
def answer_types(sentence: str) -> int:
    """Bits of the kinds of answer that a sentence in small letters asks for (see TYPES); 0 where nothing says it."""
    return sum(1 << number for number, (_, pattern) in enumerate(_TYPES) if pattern.search(sentence))
