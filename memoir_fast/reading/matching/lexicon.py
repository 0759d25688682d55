"""What the router knows about English words: which share a meaning, which exclude each other, and what a question asks
for.

It complements the activations, which know little about "runs" and "chief executive of" being alike. A shared meaning
counts as a weaker match than the same word. In other languages nothing here applies, and codes and spellings decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache, reduce
from operator import or_

# One meaning per line; a word may be in several. "*" at the end stands for any ending.
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

# Groups of words that exclude each other; words joined by "," count as the same.
CONTRASTS = """
monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december
first second,2 third,3 fourth,4 fifth,5 sixth,6 seventh,7 eighth,8 ninth,9 tenth,10
north south east west
northern southern eastern western
morning afternoon evening night
spring summer autumn,fall winter
upper lower
senior junior
men,man,male women,woman,female
old new
red blue green yellow orange black white purple brown pink grey,gray
primary secondary tertiary
staging production development testing
daily weekly monthly quarterly yearly,annual
day week month quarter year
left right
import,imports export,exports
upload,uploads,uploaded download,downloads,downloaded
minimum,min,least maximum,max,most
largest,biggest smallest
shortest longest
first,initial last,final,latest
father,dad mother,mum,mom son daughter brother sister husband wife uncle aunt
born,birth,birthday,birthplace die,died,death
indoor outdoor
inside outside
open,opens,opening,opened close,closes,closing,closed
start,starts,begin,begins,beginning end,ends,finish,finishes,ending
inbound,incoming outbound,outgoing
departure,depart,departs,leave,leaves arrival,arrive,arrives
adult,adults child,children
employee,employees,staff contractor,contractors customer,customers visitor,visitors
who when where why
early late
front back,rear
inner outer
public private
hot cold
buy,buys,buyer,purchase sell,sells,seller
domestic international
weekday,weekdays weekend,weekends
breakfast lunch dinner,supper
small medium large
king queen
entrance exit
teacher,teachers student,students,pupil,pupils
input output
before after
gross net
horizontal vertical
phone,telephone,phones email,e-mail,emails fax
height weight width length depth
radiology cardiology neurology oncology dermatology pediatrics,paediatrics surgery
doctor,physician nurse dentist pharmacist
meat fish vegetables,vegetable fruit,fruits spice,spices
paper glass plastic metal wood textile,textiles
bus,buses train,trains tram,streetcar ferry flight,plane taxi,cab metro,subway
bedroom kitchen bathroom cellar,basement attic
fridge,refrigerator oven dishwasher washer dryer microwave
printer scanner projector monitor
guitar piano violin drums trumpet flute
football,soccer basketball tennis hockey volleyball
coach,trainer captain goalkeeper,keeper referee
"""

_COST = r"(cost|costs|price|priced|pay|paid|fee|fees|charge|charges|money|expensive|salary|revenue|turnover|earn|earns|budget|spend|fine|rent|wage|sell for|sells for)"
_KIND = r"(?:what|which)(?: exact| specific| kind of| type of| sort of)?"
_TYPES = (
    ("person", re.compile(r"\b(who|whom|whose|who's|person|woman|man|boss|colleague|author|name of the person|" + _KIND + r" (?:person|man|woman|colleague|manager|player|actor|artist|team|company|firm|organi[sz]ation|group|teacher|driver|writer))\b|\bby$")),
    ("date", re.compile(r"\b(when|date|dates|deadline|birthday|year|month|weekday|since|until when|by when|" + _KIND + r" (?:day|days|year|date|month|weekday|century)|in the year|what's the date)\b")),
    ("clock", re.compile(r"\b(when|how (?:late|early)|" + _KIND + r" (?:time|hour)|at what time|opening|closing|opens at|closes at|time does|time is)\b")),
    ("place", re.compile(r"\b(where|" + _KIND + r" (?:city|country|place|town|location|state|street|floor|spot|room|building|folder|hall|venue|region|stadium|address)|birthplace|location|headquarter\w*|address|venue|situated|located|whereabouts|in the (?:city|town|country) of)\b")),
    ("money", re.compile(r"\b" + _COST + r"\b")),
    ("count", re.compile(r"\b(how many|number of|population|headcount|populous|how large is the (?:staff|team|crowd))\b")),
    ("measure", re.compile(r"\b(how much(?! (?:is|does|do|did|must|money|time|would|will|can))|how (?:big|large|tall|heavy|fast|high|deep|wide|hot|cold|warm|far|quick|strong|loud|thick)|weigh|weighs|weight|height|size|speed|temperature|length|distance|amount|quantity|capacity|dose|dosage|volume|pressure|range)\b")),
    ("span", re.compile(r"\b(how (?:long|old|soon|quickly)|how much time|how many (?:days|hours|minutes|weeks|months|years|seconds)|duration|lasts|last for|warranty|life span|lifetime|period)\b")),
    ("repeat", re.compile(r"\b(how (?:often|frequently|regularly)|interval|intervals|frequency|every)\b")),
    ("way", re.compile(r"\b(how (?:do|can|should|to|did|could|must)|command)\b")),
    ("reason", re.compile(r"\b(why|reason|purpose|used for|explain|describe|summari[sz]e|translate|write a|tell me a joke)\b")),
    ("contact", re.compile(r"\b(phone|telephone|e-?mail|mailbox|extension|hotline|call|dial|phone number|web ?site|link|url)\b")),
    ("language", re.compile(r"\b(language|tongue|speak|speaks|spoken)\b")),
    ("code", re.compile(r"\b(password|passcode|code|pin|identifier|id|version|port|plate)\b")),
)  # fmt: skip
TYPES = [name for name, _ in _TYPES]

# Words that shape a question without saying what it asks for.
_SHAPING = frozenset(
    "a an the of in on at to for by with from into over under about as than then is are was were be been being am do does did done has have had "
    "having can could will would shall should may might must who whom whose what which when where why how it its he she his her they them their "
    "this that these those there here i me my you your we our us and or but not no any some all so if please tell name give let s t re d ll".split()
)  # fmt: skip


def is_content(word: str) -> bool:
    """Whether a lower-case word may say what a question is about."""
    return word not in _SHAPING


_EXACT: dict[str, int] = {}
_STEMS: dict[str, int] = {}
for _number, _line in enumerate(MEANINGS.strip().splitlines()):
    for _one in _line.split():
        if _one.endswith("*"):
            _STEMS[_one[:-1]] = _STEMS.get(_one[:-1], 0) | 1 << _number
        else:
            _EXACT[_one] = _EXACT.get(_one, 0) | 1 << _number
_GROUPS: dict[str, list[tuple[int, int]]] = {}
for _number, _line in enumerate(CONTRASTS.strip().splitlines()):
    for _member, _same in enumerate(_line.split()):
        for _one in _same.split(","):
            _GROUPS.setdefault(_one, []).append((_number, _member))
MEANING_BITS = 128 if len(MEANINGS.strip().splitlines()) <= 128 else 192
CONTRAST_BITS = 64
assert len(CONTRASTS.strip().splitlines()) <= CONTRAST_BITS


@lru_cache(1 << 16)
def meanings(word: str) -> int:
    """The meanings, as bits, that a lower-case word may have."""
    bits = _EXACT.get(word, 0)
    for end in range(max(0, len(word) - 5), len(word) + 1):
        bits |= _STEMS.get(word[:end], 0)
    return bits


@lru_cache(1 << 16)
def contrasts(word: str) -> tuple[int, int]:
    """The groups of contrasting words that a word belongs to, as bits, and its places in them, as bits. Two words
    exclude each other if they share a group but no place."""
    found = _GROUPS.get(word) or _GROUPS.get(word.removesuffix("s"), [])
    return sum(1 << number for number, _ in found), _union(
        1 << (7 * number + member) % CONTRAST_BITS for number, member in found
    )


def _union(bits: Iterable[int]) -> int:
    return reduce(or_, bits, 0)


@lru_cache(1 << 14)
def answer_types(sentence: str) -> int:
    """The kinds of answer (TYPES), as bits, that a lower-case sentence asks for; 0 if nothing tells."""
    return sum(1 << number for number, (_, pattern) in enumerate(_TYPES) if pattern.search(sentence))


_AUXILIARY = r"(?:is|are|was|were|does|do|did|can|could|will|would|should|has|have|had|may|must|isn't|aren't|doesn't|don't|didn't)"
# "Where" and "when" begin statements too ("Where she is from, people speak"), if no auxiliary verb follows.
_INQUIRES = re.compile(
    r"(?:(?:please|so|and|but|ok|okay|hey|hi|hello|well|now|also|then|nq|question) )*"
    r"(?:(?:in|at|on|by|for|from|to|of|with|under|since|until|during|through|about|into|over|after|before|up to) )?"
    rf"(?:(?:who|whom|whose|who's|what|what's|whats|which|why|how|how's|where's|when's|(?:where|when) {_AUXILIARY}|{_AUXILIARY}) )"
)


@lru_cache(1 << 14)
def inquires(sentence: str) -> bool:
    """Whether a lower-case sentence begins as questions do, so that it is one without a question mark too."""
    return _INQUIRES.match(sentence) is not None


_HEAD = re.compile(
    r"\b(?:what|which)(?: is| are| was| were|'s)? (?:the |kind of |type of |sort of |name of the )*(?P<a>[a-z'-]+(?: [a-z'-]+){0,4}?)(?= (?:of|for|in|at|on|to|is|are|was|were|does|do|did|has|have|can|could|should|must|will|would|may|the|a|an|and|from|by|with)\b|$)"
    r"|\bhow (?P<b>[a-z]+)|^the (?P<c>[a-z'-]+(?: [a-z'-]+){0,2}) (?:of|for|in|at)\b|\b(?:name|tell me|give me) the (?P<d>[a-z'-]+(?: [a-z'-]+){0,2})(?= (?:of|for|in|at)\b)"
)  # fmt: skip
_EMPTY = frozenset(
    "is are was were do does did has have can could should must will would may the a an of for in at on to it there".split()
)


@lru_cache(1 << 14)
def asked_words(sentence: str) -> tuple[int, ...]:
    """The places, in a lower-case sentence, of the words that say what is asked for: of "opening" and "time" in "what
    is the opening time of X"."""
    found: list[int] = []
    first = at = 0
    for match in _HEAD.finditer(sentence):
        part = next(name for name in "abcd" if match[name] is not None)
        first, at = first + sentence.count(" ", at, match.start(part)), match.start(part)
        found += [first + i for i, word in enumerate(match[part].split(" ")) if word not in _EMPTY]
    return tuple(found)
