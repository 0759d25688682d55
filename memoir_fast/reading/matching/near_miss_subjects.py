"""Subjects of the near misses, by class: invented and real names, similar ones (`sibling`), and text to put around a
question."""

from __future__ import annotations

import random

from .near_miss_everyday_subjects import everyday_subject, kindred, place_inside

_ON = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w y z".split()
_MID = "a e i o u ai ea or an el in ar on er al en".split()
_END = "a o n r s ck lde ne ria mont wick ford ton dale via lin tor gard field x ris moor bury by".split()
_FIRST = (
    "Anna Ben Carla David Elena Farid Greta Hugo Ines Jonas Karim Lucy Marco Nadia Oscar Priya Rosa Samuel Tara Victor Wanda "
    "Yusuf Zoe Albert Brigitte Chen Diego Emily Francis George Hannah Ivan Julia Kwame Leon Maria Nils Olga Paul Rachel "
    "Stefan Thomas Ursula William Michael Jean Pierre Johann Sofia"
).split()
_LAST = (
    "Berg Castillo Dorfman Eriksen Fontaine Gupta Hartley Ibrahim Jansen Kowalski Lindqvist Moreau Nakamura Okafor Petrov Quinn "
    "Rossi Schmidt Tanaka Ullman Varga Whitfield Yilmaz Zimmer Baker Collins Diaz Foster Graham Hughes Keller Lopez Murray "
    "Nguyen Olsen Palmer Reyes Sato Torres Weber Young Einstein Darwin Mozart Curie Newton"
).split()
_REAL = {
    "company": "Toyota|Siemens|IBM|Nestle|Boeing|Nokia|Pfizer|Ikea|Sony|Intel|Volkswagen|Adidas|Samsung|Oracle|Shell|Danone|Spotify",
    "person": "Isaac Newton|Marie Curie|Mahatma Gandhi|Angela Merkel|Miles Davis|Pele|Cleopatra|Leo Tolstoy|Serena Williams|Gustav Mahler",
    "place": "France|Brazil|Japan|Kenya|Norway|Canada|Egypt|Peru|Vietnam|Ireland|Chicago|Lyon|Osaka|Cairo|Porto|Munich|Tasmania|Austria|"
    "Finland|Chile|Iran|Iraq|Niger|Nigeria|Guinea|Slovakia|Slovenia|Georgia|New York|South Korea|North Korea|the Netherlands|San Marino",
    "work": "Hamlet|The Godfather|Moby Dick|War and Peace|Casablanca|Titanic|Dracula|Don Quixote|Star Wars|The Lion King|Breaking Bad|"
    "The Hobbit|Emma|Carmen|Psycho|Anna Karenina|Friends|The Magic Flute",
    "product": "the Ford Focus|the Boeing 747|the iPhone 12|the Volvo B10M|Windows 95|the Game Boy|the Honda Civic|the Nikon D90|Nokia 3310|"
    "the Airbus A350|the Fiat 500",
    "service": "the British Museum|the Louvre|Heathrow Airport|the city library|the gym|the main canteen|Central Park Zoo|the front desk",
    "software": "Postgres|nginx|Redis|Kafka|Jenkins|Grafana|the mail server|the staging cluster|Elasticsearch|the build server|git|Docker",
    "event": "the Olympic Games|the World Cup|Christmas|the annual meeting|the battle of Hastings|the summer party|the French Revolution",
    "nature": "the tiger|the oak|the blue whale|the honey bee|Saturn|Halley's Comet|the emperor penguin|basil|Quercus|Iris|the Moon|aspirin",
    "policy": "parental leave|the travel policy|a sick note|the security audit|a refund|the code review|a visa application|remote work",
    "item": "the red folder|the spare key|the meeting room",
}
_TAIL = {
    "company": "Robotics|Logistics|Bank|Foods|Airlines|Energy|Labs|Insurance|Motors|Group|Software|Pharma|& Sons|Industries|Media|Systems",
    "service": "Cafe|Museum|Library|Clinic|Hotel|Cinema|Gym|Pharmacy|Theatre|Pool|Bakery|Station|Restaurant|Market|Garage|Church",
    "event": "Conference|Festival|Marathon|Cup|Summit|Fair|Workshop|Parade|Election|Auction|Congress|Regatta|Championships",
    "software": "gateway|scheduler|worker|proxy|database|cache|dashboard|queue|API|service|runner|exporter",
    "place": "Island|Valley|Republic|Heights|Bay|County|Harbour|railway station|House|Lake|Church",
}
_PROCESS = (
    "a travel request|an expense claim|the fire drill|a password reset|the hiring process|a home office day|the data retention rule|a purchase order|"
    "the dress code|the onboarding|a parking permit|a laptop return|overtime|unpaid leave|a business trip|the access review|a customer complaint|"
    "the incident report|annual leave|a name change|a salary advance|the recycling rule|a guest badge|the pet policy|a bike lease|the backup test|"
    "an invoice correction|a contract renewal|a budget transfer|the smoking ban|jury duty|a training course"
)
_WORKWORDS = "Silent River|Glass Garden|Last Winter|Burning Sea|Paper Moon|Golden Door|Lost Harbour|Broken Crown|Hidden Road|Second Sun|Iron Sky|Blue Hour|Empty Room|Salt Wind".split(
    "|"
)
_ITEMS = "room {n}|invoice {n}|order {n}|ticket {n}|bus {n}|gate {n}|platform {n}|task {n}|shelf {n}|locker {n}|item SKU-{n}|case {n}|flight LX {n}|contract C-{n}|train {n}|building {n}|team {n}|machine {n}|parcel {n}|chapter {n}|section {n}|printer {n}|lot {n}|project {n}|customer {n}".split(
    "|"
)
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_ORDINALS = "first second third fourth fifth sixth seventh".split()
_MONTHS = "January February March April May June July August September October November December".split()
_CONTRAST = [_DAYS, _ORDINALS, _MONTHS, "north south east west".split(), "morning evening".split(), "summer winter spring autumn".split(),
             "upper lower".split(), "junior senior".split(), "men women".split(), "old new".split(), "red blue green yellow".split(),
             "primary secondary".split(), "staging production".split(), "weekly monthly yearly".split(), "left right".split(),
             "import export".split()]  # fmt: skip


_KINDS = (
    "water air oil night early late day web mobile standard business visitor staff main back front guest summer winter coffee gas heat data sales finance safety fire "
    "yoga chess tennis pottery swimming cooking travel parking phone email delivery payment search login shipping training office garden spare master backup print"
).split()
_THINGS = (
    "filter shift shop app plan pump door course account team line class tournament entrance desk service server printer heater gate key card room budget policy "
    "manual contract order report meeting office pass fee bill alarm system tool page form list"
).split()


def _word(rng: random.Random) -> str:
    return (
        rng.choice(_ON) + rng.choice(_MID) + rng.choice(("", rng.choice(_ON) + rng.choice(_MID))) + rng.choice(_END)
    ).capitalize()


def _one(name: str, rng: random.Random) -> str:
    found = everyday_subject(name, rng, lambda: _word(rng), _FIRST)
    if found is not None:
        return found
    if name in ("item", "service") and rng.random() < 0.12:
        return place_inside(rng)
    if name in _REAL and rng.random() < 0.25:
        return rng.choice(_REAL[name].split("|"))
    if name in ("item", "policy", "service", "software") and rng.random() < 0.4:
        return f"the {rng.choice(_KINDS)} {rng.choice(_THINGS)}"
    if name == "person":
        first = rng.choice(_FIRST) if rng.random() < 0.7 else _word(rng)
        last = rng.choice(_LAST) if rng.random() < 0.5 else _word(rng)
        return f"{first} {rng.choice(_LAST)} {last}" if rng.random() < 0.15 else f"{first} {last}"
    if name == "work":
        title = (
            rng.choice(_WORKWORDS)
            if rng.random() < 0.6
            else f"{rng.choice(('House', 'Song', 'Return', 'Night', 'Room'))} of {_word(rng)}"
        )
        return rng.choice(("{}", "The {}", "the novel {}", "the film The {}", "the song {}", "the series {}")).format(
            title
        )
    if name == "item":
        return _item(rng)
    if name == "policy":
        return rng.choice(_PROCESS.split("|"))
    if name == "product":
        return f"{rng.choice(('the ', ''))}{_word(rng)} {rng.choice(('X', 'T', 'Pro ', 'Mini ', 'Model ', ''))}{rng.choice((7, 9, 12, 40, 100, 220, 300, 500))}"
    if name == "nature":
        return (
            f"{_word(rng)} {_word(rng).lower()}"
            if rng.random() < 0.5
            else rng.choice(
                (_word(rng), f"asteroid {rng.randrange(10, 9999)} {_word(rng)}", f"NGC {rng.randrange(100, 9999)}")
            )
        )
    if name == "event":
        year = rng.choice(("", "", f"{rng.randrange(1950, 2040)} "))
        return f"the {year}{rng.choice((rng.choice(_DAYS), _word(rng), _word(rng), rng.choice(_MONTHS)))} {rng.choice(_TAIL[name].split('|'))}"
    if name == "software":
        return rng.choice((f"the {_word(rng).lower()} {rng.choice(_TAIL[name].split('|'))}", f"{_word(rng)}", f"host {_word(rng).lower()}-{rng.randrange(1, 30):02d}",
                           f"the {rng.choice(('billing', 'login', 'search', 'payment', 'report', 'staging'))} {rng.choice(_TAIL[name].split('|'))}"))  # fmt: skip
    if name == "place" and rng.random() < 0.6:
        return rng.choice(("{}", "{}", "the town of {}", "the island of {}", "Port {}")).format(_word(rng))
    return (
        f"{_word(rng)} {rng.choice(_TAIL[name].split('|'))}" if rng.random() < 0.8 or name != "company" else _word(rng)
    )


def _item(rng: random.Random) -> str:
    if rng.random() < 0.25:
        return rng.choice(
            (f"the {rng.choice(_DAYS)} shift", f"the {rng.choice(_ORDINALS)} delivery", f"the {rng.choice(_MONTHS)} report",
             f"the {rng.choice(('north', 'south', 'east', 'west'))} door", f"the {rng.choice(('morning', 'evening'))} meeting",
             f"the {rng.choice(('red', 'blue', 'green', 'yellow'))} box", f"the {rng.choice(_DAYS)} bus")
        )  # fmt: skip
    return rng.choice(_ITEMS).format(
        n=rng.choice((rng.randrange(1, 20), rng.randrange(100, 420), rng.randrange(1000, 9999)))
    )


def subjects(name: str, rng: random.Random, number: int) -> list[str]:
    """`number` different subjects of a class; fewer if not enough are found."""
    found: dict[str, None] = {}
    for _ in range(number * 4):
        found.setdefault(_one(name, rng))
        if len(found) >= number:
            break
    return list(found)


def sibling(name: str, subject: str, names: list[str], rng: random.Random) -> str:
    """A subject that is easily confused with the given one: another number, another day, one word or a few letters
    changed."""
    words = subject.split(" ")
    alike = kindred(subject, rng)
    if alike is not None and rng.random() < 0.6:
        return alike
    for group in _CONTRAST:
        for i, word in enumerate(words):
            if word.lower() in [w.lower() for w in group]:
                other = rng.choice([w for w in group if w.lower() != word.lower()])
                return " ".join([*words[:i], other.capitalize() if word[0].isupper() else other, *words[i + 1 :]])
    if words[-1] in _THINGS and words[-2] in _KINDS:
        if rng.random() < 0.65:
            return " ".join([*words[:-2], rng.choice([k for k in _KINDS if k != words[-2]]), words[-1]])
        return " ".join([*words[:-1], rng.choice([t for t in _THINGS if t != words[-1]])])
    digits = [i for i, word in enumerate(words) if any(c.isdigit() for c in word)]
    if digits and rng.random() < 0.85:
        i = digits[-1]
        return " ".join([*words[:i], _other_number(words[i], rng), *words[i + 1 :]])
    able = [i for i, word in enumerate(words) if word[0].isupper() and len(word) > 2]
    if name == "policy" or not able or rng.random() < 0.25:
        return rng.choice([n for n in names if n != subject] or [_word(rng)])
    i, draw = rng.choice(able), rng.random()
    if name == "person":
        new = rng.choice(_LAST if i else _FIRST) if draw < 0.7 else _near(words[i], rng)
    elif name in _TAIL and words[i] in _TAIL[name].split("|") and i:
        new = rng.choice(_TAIL[name].split("|"))
    else:
        new = _near(words[i], rng) if draw < 0.45 else _word(rng)
    return " ".join([*words[:i], new, *words[i + 1 :]]) if new != words[i] else f"{_word(rng)} {subject}"


def _other_number(word: str, rng: random.Random) -> str:
    at = [i for i, c in enumerate(word) if c.isdigit()]
    i = rng.choice(at[-2:])
    return word[:i] + rng.choice([d for d in "123456789" if d != word[i]]) + word[i + 1 :]


def _near(word: str, rng: random.Random) -> str:
    """Another name with the same beginning or end, which looks like a typing error of the given one."""
    half = max(2, len(word) // 2)
    return (
        word[:half] + rng.choice(_MID) + rng.choice(_END)
        if rng.random() < 0.6
        else _word(rng)[:3] + word[half:].lower()
    )


_PREFIXES = (
    "Please tell me: |Could you tell me |Can you please say |Hi! |Hello, |Quick question: |I would like to know: |Do you know |Hey, |Good morning. |"
    "Answer in one word: |Be brief. |Question: |For my report: |I'm wondering, |Please answer: |One more thing: |Help me out: |Sorry to bother you, but |"
    "Reply with the answer only. |Remind me, |Just checking: |My colleague wants to know: |Tell me quickly, |So, |Dear assistant, |In short: |"
    "You are a helpful assistant. Answer the question. |Use one sentence. |Q: "
).split("|")
PREFIXES = tuple(p if p.endswith(" ") else p + " " for p in _PREFIXES)
SUFFIXES = tuple(
    "Thanks!|Thank you very much.|Please answer in one word.|Keep it short.|I need it for a form.|Just the name, please.|Answer briefly.|Please be exact.|"
    "Thanks in advance for your help.|No explanation needed.|Only the answer.|I have to tell my boss.|Cheers.|Reply in one line.|It is urgent.|Any idea?|"
    "I forgot it again.|Do not add anything else.|Answer:|Can you help?|Please.".split("|")
)
SMALL_TALK = tuple(
    "Good morning, I hope you are well.|Hi, how are you today?|Hello there! Lovely weather, isn't it?|Thanks for the help earlier.|It has been a long day.|"
    "I just came back from lunch.|Nice to meet you.|You were great yesterday, thank you.|I'm a bit tired, sorry.|Haha, that was funny.|Okay, next topic.|"
    "Sorry, I was interrupted.|Let's get to work.|I have a question for you.|How is it going? Fine here.|My coffee is cold again.".split(
        "|"
    )
)
CONTEXTS = tuple(
    """The council school was built about 1899.|Several studies have shown mixed results for this treatment.|The train was late again on that day.|He moved to the coast with his wife and two sons.|
Our office was painted in the spring, and the new chairs arrived a week later.|The film received good reviews from most critics.|There are no lakes in the northern part of the region.|
I spent the whole morning sorting the mail and talking to the suppliers.|The species was last seen in 1964.|In the second half the visitors scored twice.|She joined the board in 2011 and left three years later.|
The village has a small church and a school with two teachers.|Last week we had visitors from abroad, and they asked many things.|A new bridge was opened by the minister in May.|The album sold a million copies.|
It was added to the register of historic places in 1985.|Retrieved on 4 May 2009.|The meeting on Tuesday was moved to the large hall.|Many people in the area work on farms.|The software was updated at night without any trouble.|
We are preparing a small quiz for the team.|He won the race in two hours and nine minutes.|The museum shows coins, maps and letters.|According to the 2001 census, 312 people lived there.|They have three children, Peter, Karin and Ove.|
Our customers often write to us about deliveries.|The recipe needs butter, flour and some lemon juice.|The team finished fifth in the league that season.|The old contract ended in December.|Prices went up by three percent in the last quarter.|
The plant grows on dry slopes and flowers in June.|At the time she lived in a flat near the station.|The project was started by volunteers, and it has grown ever since.|A storm damaged the roof of the factory.|The book was translated into nine languages.|
The new colleague begins on Monday and needs a desk.|Most of the guests had left by midnight.|I am filling in a form for our partners and some fields are still empty.|The engine was replaced by a stronger one in 1972.|The letter was found in an attic.|
The court decided against the city.|For the newsletter we collect facts about our work.|The mayor thanked the fire fighters.|This article needs more sources.|The lake freezes in most winters.|Yesterday the network was down for an hour, so we could not check.|
The actor was born into a family of bakers.|He studied law before he turned to music.|The parade starts at the old town gate.|The station has two tracks and a kiosk.|We tested the backup on Friday and everything was fine.|The data are stored for ninety days.""".replace(
        "\n", ""
    ).split("|")
)
# About other things: {w} is one word of a subject, in its plain sense.
ELSEWHERE = tuple(
    "where was {w} first played|what does the word {w} mean|How do you spell {w}?|who invented the {w}|which {w} is the largest in the world|what is a {w} made of|"
    "Why is {w} so popular?|The word {w} comes from the language|The first {w} was built in|how many kinds of {w} are there?|What rhymes with {w}?|"
    "The largest {w} in Europe stands in|The {w} was invented by|who sang the song about a {w}|What is the plural of {w}?|when did the first {w} appear on television|"
    "The doctor first saw the {w} in|Is a {w} heavier than a chair?|What colour is the {w} in the painting?|how do you draw a {w}|who played the {w} in the film|"
    "The opposite of {w} is|which country exports the most {w}|What is the French word for {w}?|In the old tale the {w} turns into|the king of {w} was married to|"
    "where does the expression {w} come from|how much does a {w} weigh|What is the capital of the state with the most {w}?|who wrote the book about {w}|"
    "what happened to the {w} after the war|The flag with a {w} on it belongs to|how long does it take to make {w}|which river flows past {w}|who founded the church of {w}|"
    "what is the difference between {w} and stone|The patron saint of {w} is|how old is the oldest {w}|What do you call a group of {w}?|who won the {w} last year".split(
        "|"
    )
)
MENTIONS = tuple(
    "We talked about {s} for a while.|A friend of mine read something about {s}.|Write a short poem about {s}.|My notes on {s} are in the drawer.|The article compares {s} with others.|{s} was mentioned in the news.|"
    "Translate into French: {s} is great.|I like {s} very much.|Summarise what you think of {s}.|There was a discussion about {s} at lunch.|Is {s} interesting?|He dreamed of {s}.|How do you spell {s}?|"
    "Give me three reasons to like {s}.|The talk about {s} was short.|What do people say about {s}?|Tell me a joke about {s}.|Have you ever heard of {s}?|Nobody had expected {s} to be so popular.".split(
        "|"
    )
)
