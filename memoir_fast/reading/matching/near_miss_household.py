"""More classes of subjects, from daily life and general knowledge, in the format of `near_miss_relations.py`.

Each subject is made of a few words, one from each list of `HOUSEHOLD_SUBJECTS`. The sentences are the project's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .near_miss_projects import PROJECT_SUBJECTS

HOUSEHOLD: dict[str, str] = {
    "hotel": """
When is breakfast served at {s}?|At what time can guests of {s} have breakfast?|Breakfast at {s} is from|What are the breakfast hours of {s}?|How early can I get breakfast in {s}?
When is check-in at {s}?|From what time can I move into my room at {s}?|Guests of {s} check in from|When will my room at {s} be ready?|How early may I arrive at {s}?
When is check-out at {s}?|By what time must I leave my room at {s}?|Guests of {s} have to check out by|Until when can I keep the room at {s}?
How much is a night at {s}?|What does a room at {s} cost?|A double room at {s} is offered for|What is the rate per night at {s}?|What do I pay to sleep at {s}?
How much is parking at {s}?|What does {s} charge for a car?|A parking space at {s} costs|What is the fee for leaving my car at {s}?
How many rooms does {s} have?|What is the number of rooms in {s}?|{s} offers rooms, in all|How large is {s}, how many bedrooms?
How many stars does {s} have?|What is the rating of {s}?|{s} is rated with|How good is {s}, by stars?
How far is {s} from the station?|How long is the walk from the station to {s}?|From the station to {s} it takes|What is the distance between {s} and the station?
On which floor is the sauna of {s}?|Where in {s} is the sauna?|The sauna of {s} is on|What floor do I go to for the sauna in {s}?
What is the door code of {s} at night?|Which code opens {s} after midnight?|The night code of {s} is|What do I type to get into {s} late?
Who owns {s}?|To whom does {s} belong?|The proprietor of {s} is|Which family has {s}?
Are dogs allowed in {s}?|Can I bring my dog to {s}?|What is the rule on pets at {s}?|Does {s} take guests with animals?""",
    "appliance": """
How do I reset {s}?|What is the way to restore {s}?|{s} is reset by|Which button do I hold to bring {s} back to its defaults?|How can one start {s} afresh?
How do I clean {s}?|What should be used to clean {s}?|{s} is cleaned with|What is the right way to wash {s}?
How often must {s} be cleaned?|At what interval does {s} need cleaning?|{s} has to be washed every|How regularly should one clean {s}?
When must the filter of {s} be changed?|How often does {s} get a new filter?|The filter in {s} is replaced every|After how long do I swap the filter of {s}?
Which batteries does {s} take?|What type of battery goes into {s}?|{s} needs batteries of the size|What do I buy when {s} has run flat?
How much power does {s} use?|What is the wattage of {s}?|{s} draws|How many watts does {s} need?
How loud is {s}?|What noise level does {s} have?|{s} makes a noise of|How many decibels come from {s}?
What does error 4 on {s} mean?|What is wrong when {s} shows error 4?|On {s} error 4 stands for|Why does {s} display a 4?
Who repairs {s}?|Whom do I call when {s} is broken?|Repairs of {s} are done by|Which technician looks after {s}?
Where did we buy {s}?|From which shop is {s}?|{s} was bought at|In what store did we get {s}?
When did we buy {s}?|What is the purchase date of {s}?|{s} was bought in|Since when do we have {s}?
How long is the cable of {s}?|What is the length of the cord of {s}?|The cable of {s} measures|How far does the lead of {s} reach?
How long is {s} under warranty?|Until when is {s} covered by the guarantee?|The guarantee of {s} runs until|For how long will they mend {s} for free?
What is the serial number of {s}?|Which serial number is printed on {s}?|{s} carries the serial number|Where do I read the serial of {s}, and what is it?""",
    "subscription": """
How much does {s} cost a month?|What is the monthly price of {s}?|For {s} we pay every month|What do I pay each month for {s}?|How expensive is {s}?
When does {s} renew?|What is the renewal date of {s}?|{s} is extended on|When do they bill us for {s} again?
How do I cancel {s}?|Where can {s} be cancelled?|{s} is ended by|What must I do to get rid of {s}?
How much notice do I need to cancel {s}?|What is the notice period of {s}?|{s} can be ended with a notice of|How far ahead must I cancel {s}?
How many users does {s} allow?|How many people can use {s}?|{s} is limited to|What is the maximum number of seats in {s}?
Who pays for {s}?|From whose budget does {s} come?|{s} is paid by|Which department is charged for {s}?
Which card is {s} paid with?|What means of payment is used for {s}?|{s} is charged to the card|With what do we pay for {s}?
How long is the free trial of {s}?|For how many days can one try {s}?|{s} is free for the first|What is the trial period of {s}?
What is included in {s}?|What do we get with {s}?|{s} comes with|Which features belong to {s}?
What is the customer number for {s}?|Under which number are we known at {s}?|Our client number at {s} is|What number do I give when I call about {s}?
Who signed up for {s}?|Who opened the account for {s}?|{s} was ordered by|Whose name is {s} in?
What discount do students get on {s}?|How much cheaper is {s} for students?|Students pay for {s} only|What is the student rebate for {s}?""",
    "app": """
Which endpoint lists the orders in {s}?|What path returns the orders of {s}?|The orders of {s} are found under|Which URL do I call for orders in {s}?
Which endpoint creates a user in {s}?|What path adds a user to {s}?|A new user of {s} is made by calling|Which call registers a person in {s}?
What is the rate limit of {s}?|How many requests per minute does {s} accept?|{s} allows requests up to|How often may I call {s}?
How long is a token of {s} valid?|After what time do tokens of {s} expire?|A token of {s} lives for|When must I renew my {s} token?
Which header carries the key of {s}?|In what header do I send the key for {s}?|{s} expects its key in the header|How is the key passed to {s}?
In which format does {s} answer?|What format do the replies of {s} have?|{s} returns its data as|What do I get back from {s}, which format?
What is the largest file {s} accepts?|How big may an upload to {s} be?|{s} takes files up to|What is the size limit for files in {s}?
Which browser does {s} need?|What browsers work with {s}?|{s} runs only in|In which browser should I open {s}?
Who developed {s}?|Which team built {s}?|{s} was programmed by|Who are the makers of {s}?
Who tests {s}?|Which person does quality checks for {s}?|{s} is tested by|Who tries out new builds of {s}?
When is {s} down for maintenance?|At what time is {s} serviced?|The maintenance window of {s} is|When can {s} not be used?
Which shortcut opens the search in {s}?|What keys do I press to search in {s}?|The search of {s} opens with|How do I bring up search in {s}?
What is the admin account of {s}?|With which user does one administer {s}?|{s} is administered as|Which login has all rights in {s}?
Where do I report bugs in {s}?|Where are faults of {s} filed?|Bugs of {s} go to|Whom do I tell when {s} crashes?""",
    "pet": """
What does {s} eat?|Which food does {s} get?|{s} is fed with|What do I put in the bowl of {s}?|What is the favourite meal of {s}?
How often is {s} fed?|How many times a day does {s} eat?|{s} gets food every|At what intervals do I feed {s}?
How old is {s}?|What is the age of {s}?|{s} has reached the age of|How many years has {s} lived?
When was {s} born?|What is the birthday of {s}?|{s} came into the world on|On which date was {s} born?
Which breed is {s}?|What kind of animal is {s}?|{s} belongs to the breed|Of what race is {s}?
How much does {s} weigh?|What is the weight of {s}?|{s} weighs|How heavy is {s}?
Who is the vet of {s}?|Which doctor treats {s}?|{s} is looked after by the vet|Who examines {s} when it is ill?
When was {s} vaccinated?|What is the date of the last jab of {s}?|{s} got its shot on|When did {s} have its vaccination?
What is {s} allergic to?|Which food must {s} never have?|{s} cannot stand|What makes {s} ill?
Where does {s} sleep?|What is the sleeping place of {s}?|At night {s} lies in|Where is the basket of {s}?
Who walks {s}?|Who takes {s} out?|{s} goes outside with|Whose turn is it to go round the block with {s}?
What is the favourite toy of {s}?|What does {s} like to play with?|{s} loves to chase|Which toy does {s} want?
What is the chip number of {s}?|Which number is on the chip of {s}?|{s} is registered under the chip|What does the scanner show for {s}?
From whom did we get {s}?|Who gave us {s}?|{s} came to us from|Which breeder sold {s}?""",
    "game": """
How many players does {s} need?|For how many people is {s}?|{s} is played by|How large is a round of {s}, how many players?
How long does a round of {s} take?|How many minutes does {s} last?|A match of {s} goes on for|What is the playing time of {s}?
From what age can one play {s}?|How old must players of {s} be?|{s} is meant for players from|What is the minimum age for {s}?
Who invented {s}?|Who is the designer of {s}?|{s} was thought up by|Whose idea was {s}?
Which company published {s}?|Who sells {s}?|{s} was brought to market by|What publisher is behind {s}?
How many cards are in {s}?|What is the number of cards of {s}?|The deck of {s} has|How big is the deck of {s}?
How many points win {s}?|What score is needed to win {s}?|{s} is won with|At how many points is {s} over?
Who begins in {s}?|Which player starts {s}?|The first move in {s} belongs to|Who goes first in {s}?
What does the red card do in {s}?|What is the effect of a red card in {s}?|In {s} a red card means|What happens when I draw red in {s}?
Who holds the record in {s}?|Which player has the best score in {s}?|The highest score in {s} was reached by|Who is the champion of {s}?
What is the final level of {s} called?|How is the last stage of {s} named?|{s} ends with the level|Which level comes last in {s}?
On which console does {s} run?|What machine do I need for {s}?|{s} can be played on|For which system was {s} made?""",
    "building": """
Who designed {s}?|Who was the architect of {s}?|{s} was planned by|Whose design is {s}?|Which architect drew {s}?
When was {s} completed?|In which year was {s} finished?|{s} was completed in|Since when has {s} been standing?|What year did they end work on {s}?
When did work on {s} begin?|In what year was the first stone of {s} laid?|The building of {s} started in|When did they start to build {s}?
How tall is {s}?|What is the height of {s}?|{s} rises to|How many metres high is {s}?
How many floors does {s} have?|What is the number of storeys of {s}?|{s} counts floors, namely|How many levels are in {s}?
What is {s} made of?|Which material was used for {s}?|{s} consists mostly of|From what was {s} built?
How much did {s} cost?|What was the price of building {s}?|{s} was built for|How expensive was {s}?
Who lives in {s}?|Which people occupy {s}?|{s} is home to|What tenants does {s} have?
Who owns {s}?|To whom does {s} belong?|{s} is the property of|Who is the landlord of {s}?
Who cleans {s}?|Which firm does the cleaning in {s}?|{s} is kept clean by|Who sweeps {s}?
Where is the fuse box in {s}?|Where do I find the fuses of {s}?|The fuses of {s} are in|In which place is the electric panel of {s}?
Where is the water main of {s}?|Where can the water be shut off in {s}?|The water tap of {s} is in|In which place do I turn off water for {s}?
How is {s} heated?|What kind of heating does {s} have?|{s} gets its warmth from|With what do they heat {s}?
What stood there before {s}?|What was on the site of {s} earlier?|Before {s} the site held|Which house made way for {s}?""",
    "disease": """
What causes {s}?|What is the cause of {s}?|{s} is caused by|Why do people get {s}?|Where does {s} come from?
How is {s} treated?|What is the treatment for {s}?|{s} is treated with|What helps against {s}?|What do doctors do about {s}?
What are the symptoms of {s}?|What are the signs of {s}?|{s} shows itself by|How do I notice {s}?
How is {s} spread?|In what way does {s} pass from one to another?|{s} is passed on by|How do people catch {s}?
How long does {s} last?|For how many days is one ill with {s}?|{s} is over after|What is the duration of {s}?
How long is the incubation of {s}?|How many days lie between infection and {s}?|{s} breaks out after|When do first signs of {s} appear after contact?
Who discovered {s}?|Who was the first to describe {s}?|{s} was first described by|Which doctor found {s}?
Which organ does {s} affect?|What part of the body is hit by {s}?|{s} attacks|Where in the body does {s} sit?
How can {s} be prevented?|What protects against {s}?|One avoids {s} by|How do I keep from getting {s}?
Who is most at risk of {s}?|Which people get {s} most often?|{s} mostly strikes|What group suffers most from {s}?
How many people have {s}?|How common is {s}?|{s} is found in|What number of people suffer from {s}?
Which test shows {s}?|How is {s} diagnosed?|{s} is detected with|What test do they use to find {s}?""",
    "artwork": """
Who painted {s}?|Who is the artist of {s}?|{s} was painted by|Which painter made {s}?|By whose hand is {s}?
When was {s} painted?|What year is {s} from?|{s} was painted in|When did the artist finish {s}?|How old is {s}, which year?
Where does {s} hang?|In which museum is {s}?|{s} can be seen in|What gallery shows {s}?|Where is {s} on display?
Who bought {s}?|Who is the owner of {s} today?|{s} now belongs to|To whom was {s} sold?
How much was paid for {s}?|What did {s} sell for?|{s} went at auction for|What is the price of {s}?
What does {s} show?|What is the subject of {s}?|{s} depicts|What can be seen in {s}?
Who stole {s}?|Which thief took {s}?|{s} was stolen by|Who is behind the theft of {s}?
Who restored {s}?|Which expert cleaned {s}?|{s} was restored by|Who repaired the damage to {s}?
What is {s} painted on?|Which material is under the paint of {s}?|{s} is done on|What surface was used for {s}?
How large is {s}?|What are the measures of {s}?|{s} measures|How wide and high is {s}?
To which style does {s} belong?|What movement is {s} part of?|{s} is a work in the style of|Which school of art does {s} stand for?
Who sat for {s}?|Who was the model for {s}?|The person in {s} is|Whose face do we see in {s}?
Who commissioned {s}?|For whom was {s} made?|{s} was ordered by|Which patron asked for {s}?""",
}

# "~" stands for an invented name, "#" for a number, "@" for a first name.
HOUSEHOLD_SUBJECTS: dict[str, tuple[str, ...]] = {
    "hotel": ("the|Hotel,~|Grand,Royal,Park,Station,Harbour,Palace,Garden", "~|Inn,Lodge,Hostel,Resort,Guesthouse", "the|lake,beach,forest,mountain,river,airport|hotel,hostel,lodge"),
    "appliance": ("the|~,kitchen,office,cellar,guest,garage,old,new|dishwasher,kettle,toaster,printer,boiler,fridge,heater,lamp,router,camera,vacuum,drill,mixer,shredder,thermostat,projector",
                  "the|~|A#,B#,E#,G#,K#,T#,X#", "@'s|dishwasher,kettle,toaster,printer,lamp,camera,drill,mixer,radio"),
    "subscription": ("the|~|plan,licence,subscription,membership,package", "the|basic,family,premium,student,team,business,starter,gold,silver|plan,tariff,package,membership",
                     "the|gym,music,newspaper,cloud,phone,film,bike,magazine,parking,backup|subscription,contract,membership", "~|Plus,Pro,Basic,Premium,Family"),
    "app": ("the|~|API,app,portal,platform,plugin", "the|shop,invoice,calendar,map,chat,weather,stock,ticket,photo,survey,payroll,inventory|API,app,portal,tool,widget", "~|Cloud,Desk,Hub,Board,Sync"),
    "pet": ("@", "@'s|dog,cat,rabbit,parrot,pony,hamster,tortoise,goat,hen", "the|white,black,brown,old,young,small,big|dog,cat,rabbit,parrot,pony,donkey,goat", "~"),
    "game": ("~", "the|~|game,quest,rally", "~|Quest,Kingdom,Racers,Islands,Tactics,Chess,Bridge", "the|card,dice,board,word,ball,memory|game|~,with bears,with trains,of pirates,of kings"),
    "building": ("the|~|Tower,Hall,Bridge,Castle,House,Arena,Mill,Palace,Gate,Villa", "the|old,new,north,south,east,west,upper,lower|tower,mill,bridge,barn,warehouse,annex,factory,church,villa",
                 "building|A#,B#,C#,D#", "the|town,concert,sports,market,festival,ice,exhibition|hall"),
    "disease": ("~|fever,disease,syndrome,virus,pox,anaemia", "the|~|disease,syndrome,virus", "measles,malaria,mumps,cholera,diabetes,gout,scurvy,leprosy,tetanus,rabies,asthma,migraine", "hay,yellow,scarlet,swamp,milk,rat|fever"),
    "artwork": ("the|Woman,Man,Girl,Boy,Old Man,Dancer,Sailor|with a,with the|Hat,Mirror,Dog,Pearl,Fan,Violin,Letter,Lamp", "the|portrait of|~,@ ~,Lady ~", "~|at Dawn,at Night,in Winter,in Spring,by the Sea",
                "the|blue,red,yellow,green,white|horse,boat,room,house,chair,garden"),
}  # fmt: skip
_PATTERNS = HOUSEHOLD_SUBJECTS | PROJECT_SUBJECTS


def patterned_subject(name: str, rng: random.Random, word: Callable[[], str], first: list[str]) -> str | None:
    """A random subject of one of the classes that patterns describe; None for another class.

    Args:
        name: the class.
        word: makes an invented name.
        first: first names.
    """
    if name not in _PATTERNS:
        return None
    text = " ".join(rng.choice(slot.split(",")) for slot in rng.choice(_PATTERNS[name]).split("|"))
    while "~" in text:
        text = text.replace("~", word(), 1)
    return text.replace("@", rng.choice(first)).replace("#", str(rng.randrange(1, 99)))


# Each list holds words of one kind, any of which can replace another.
PATTERN_KINDRED = tuple(
    [one for one in slot.split(",") if one.isalpha()]
    for patterns in _PATTERNS.values()
    for pattern in patterns
    for slot in pattern.split("|")
    if slot.count(",") > 3 and "#" not in slot
)
