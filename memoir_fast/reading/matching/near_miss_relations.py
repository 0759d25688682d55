"""The material of the near misses: for each class of subjects its relations, and for each relation several wordings.

Each line is one relation; its wordings are separated by "|", and `{s}` stands for the subject. All wordings of a
relation ask for the same fact. Different relations of a class ask for different facts about the same subject, often
with words in common. The sentences are the project's own.
"""

from __future__ import annotations

RELATIONS: dict[str, str] = {
    "company": """
Who is the chief executive of {s}?|Who runs {s}?|The CEO of {s} is|{s} is led by|Who is in charge at {s} these days?|Name the head of {s}.|Who's the boss of {s}?
Who founded {s}?|The founder of {s} is|{s} was started by|Who set up {s}?|Which person created {s}?|Who originally established the company {s}?
When was {s} founded?|The year in which {s} was established is|{s} was started in the year|How long ago was {s} set up, which year?|What is the founding date of {s}?|{s} has existed since
Where is {s} based?|The headquarters of {s} are in|In which city does {s} have its head office?|{s} is headquartered in|What is the location of {s}'s main office?|From where does {s} operate?
How many people work at {s}?|The number of employees of {s} is|How large is the staff of {s}?|{s} employs a total of|What is {s}'s headcount?|How big is the workforce of {s}?
Who owns {s}?|The owner of {s} is|{s} belongs to|Which group is the parent company of {s}?|Who holds the shares of {s}?|{s} is a subsidiary of
Who is the finance chief of {s}?|The chief financial officer of {s} is|Who is responsible for money matters at {s}?|Name the CFO of {s}.|Who heads finance at {s}?|Who looks after the accounts of {s}?
What does {s} make?|The main product of {s} is|{s} is best known for producing|Which goods does {s} manufacture?|What is sold by {s}?|What do customers buy from {s}?
What was {s}'s revenue last year?|The annual turnover of {s} was|How much money did {s} take in last year?|What sales did {s} report for the past year?|{s} had a yearly income of|How much did {s} earn?
On which exchange is {s} listed?|The shares of {s} are traded in|Where can one buy {s} stock?|{s} is quoted on the exchange of|Which stock market lists {s}?|What exchange trades {s}?
Which law firm advises {s}?|The lawyers of {s} are|Who gives legal advice to {s}?|{s} is represented in court by|Who handles legal affairs for {s}?|Which attorneys does {s} use?
What is the slogan of {s}?|The motto of {s} is|{s} advertises with the words|Which tagline does {s} use?|What phrase does {s} use in its ads?|What is {s}'s advertising line?
Who is the chief engineer of {s}?|The head of engineering at {s} is|Who leads the technical team at {s}?|Name the CTO of {s}.|Who is {s}'s top technical person?|Who directs technology at {s}?""",
    "person": """
Where was {s} born?|The birthplace of {s} is|{s} was born in the town of|In which place did {s} come into the world?|{s} originally comes from|What is {s}'s native city?|From which town does {s} stem?
When was {s} born?|The birthday of {s} is|{s} was born in the year|What is {s}'s date of birth?|On which day was {s} born?|In what year did {s} come into the world?
Where did {s} die?|The place where {s} passed away is|{s} breathed their last in|In which town did {s} spend their last hours?|Where was {s} at the time of death?|What was {s}'s place of death?
When did {s} die?|The year of {s}'s death is|{s} passed away in the year|What is the date of death of {s}?|On what day did {s} pass away?|In which year did {s}'s life end?
Who is {s} married to?|The spouse of {s} is|{s} is the husband or wife of|Who is the partner of {s}?|Whom did {s} marry?|What is the name of {s}'s wife or husband?
Who is the father of {s}?|{s}'s dad is|Whose child is {s}?|{s} is the child of a man called|What is the name of {s}'s father?|Who fathered {s}?
Who is the mother of {s}?|{s}'s mum is|{s} was given birth to by|What is the name of {s}'s mother?|Which woman is {s}'s parent?|The mother of {s} was
What does {s} do for a living?|The profession of {s} is|{s} works as a|What is {s}'s job?|What is the occupation of {s}?|{s} earns a living as a|In which line of work is {s}?
Who does {s} work for?|The employer of {s} is|{s} is employed by|At which organisation does {s} work?|{s} has a job at|Which company pays {s}?
Which university did {s} attend?|{s} studied at|The alma mater of {s} is|Where did {s} go to college?|At which school was {s} educated?|{s} got a degree from
What is the nationality of {s}?|{s} is a citizen of|Which country's passport does {s} hold?|{s} has the citizenship of|Of what country is {s} a national?|Which nation does {s} come from?
Which language does {s} speak?|The mother tongue of {s} is|{s} grew up speaking|What is {s}'s first language?|In which language does {s} write?|The native language of {s} is
Which instrument does {s} play?|{s} is a virtuoso on the|What musical instrument is {s} known for?|{s} plays the|On stage {s} can be heard on the|What does {s} play in the band?
Which team does {s} play for?|{s} is a player of|What club does {s} belong to?|{s} plays for the team|For which side does {s} appear?|{s} is under contract with the club
Which position does {s} play?|The usual place of {s} in the line-up is|On the field {s} is a|What role does {s} have in the team?|Where on the pitch does {s} play?|In the match {s} plays as
Which prize did {s} win?|{s} was honoured with the|What award was given to {s}?|{s} received the prize called|Which medal did {s} get?|What honour was {s} awarded?
What religion does {s} have?|{s} prays as a believer of|The faith of {s} is|Which god does {s} worship, in what faith?|{s} follows the religion of|What are {s}'s religious beliefs?
Which political party is {s} a member of?|{s} belongs to the party|The party affiliation of {s} is|For which party does {s} stand?|{s} ran for office as a candidate of|What are the politics of {s}, which party?
What is {s}'s phone number?|Under which number can I call {s}?|The telephone of {s} is|How do I reach {s} by phone?|What extension does {s} have?|Which number do I dial for {s}?
Who is {s}'s manager?|{s} reports to|Who supervises {s}?|The boss of {s} is|Who is the line manager of {s}?|To whom does {s} answer?
What is the field of {s}?|{s} is active in the field of|What {s} knows most about is|{s} specialises in|What is {s}'s area of expertise?|Which subject did {s} study and research?
In which war did {s} fight?|{s} saw combat in|What conflict did {s} serve in?|{s} was a soldier in the war of|Which battle or war did {s} take part in?|In what war was {s} a participant?""",
    "place": """
What is the capital of {s}?|The capital of {s} is|{s}'s seat of government is|Which city is the capital of {s}?|In {s}, the capital city is called|From which city is {s} governed?
What is the population of {s}?|How many people live in {s}?|The number of inhabitants of {s} is|{s} is home to a total of|How many residents does {s} have?|How populous is {s}?
Which currency is used in {s}?|The currency of {s} is|In {s} people pay with|What money do they use in {s}?|What is the legal tender of {s}?|Which banknotes are accepted in {s}?
What language is spoken in {s}?|The official language of {s} is|People in {s} speak|In {s} the language is|Laws in {s} are written in|If I move to {s}, I have to learn
Who is the president of {s}?|{s} is headed by president|Who is the head of state in {s}?|Name the leader of {s}.|Who governs {s}?|The current president of {s} is
Who is the mayor of {s}?|The mayor of {s} is called|Who runs the city hall of {s}?|Which person heads the council of {s}?|Who was elected mayor in {s}?|{s}'s mayor is
Which river flows through {s}?|{s} lies on the river|What is the name of the river in {s}?|The river that crosses {s} is|Which stream runs past {s}?|On which river does {s} stand?
What is the highest mountain in {s}?|The tallest peak of {s} is|Which summit in {s} is the highest?|{s}'s highest point is|What mountain towers over {s}?|Name the biggest mountain of {s}.
On which continent is {s}?|{s} lies on the land mass of|The continent of {s} is|To which continent does {s} belong?|Which continent contains {s}?|{s} lies on the continent of
What is the twin city of {s}?|{s} is twinned with|Which town is the partner of {s}?|{s} has a sister city called|The twin town of {s} is|{s}'s sister city is
In which country is {s} located?|{s} is in the country of|Which country does {s} belong to?|{s} can be found in|What state is {s} in?|{s} is situated in
What is the airport code of {s}?|The code used for {s} airport is|Which three letters stand for {s} at airlines?|{s}'s airport has the code|How do airlines abbreviate {s}?|What code do I type to fly to {s}?
What is the dialling code of {s}?|To call {s} from abroad one dials|The phone prefix of {s} is|Which area code belongs to {s}?|What number comes first when phoning {s}?|{s}'s telephone prefix is
What is the tallest building in {s}?|{s}'s highest skyscraper is|Which tower is the tallest in {s}?|The highest building of {s} is called|What building dominates the skyline of {s}?|Name the tallest tower in {s}.
What time zone is {s} in?|{s} follows the time zone|Which time is used in {s}?|The clocks in {s} are set to|What is {s}'s UTC offset?|In what zone of time is {s}?
When did {s} become independent?|The independence year of {s} is|{s} has been independent since|In which year did {s} gain freedom?|What is the independence date of {s}?|Since when is {s} a sovereign country?
What is the national dish of {s}?|The typical food in {s} is|What do people in {s} love to eat?|{s}'s favourite meal is|Which dish is {s} famous for?|Food lovers in {s} eat
In which county or district is {s}?|{s} belongs to the district of|Which administrative region contains {s}?|{s} lies in the county of|What constituency is {s} part of?|The administrative area of {s} is""",
    "work": """
Who wrote {s}?|The author of {s} is|{s} was written by|Who is the writer of {s}?|From whose pen is {s}?|By whom was {s} penned?
Who directed {s}?|The director of {s} is|{s} was directed by|Who made {s} as its director?|Which film-maker was behind {s}?|Under whose direction was {s} shot?
When did {s} come out?|The release date of {s} is|{s} was published in|In which year was {s} released?|When did {s} first appear?|When was {s} launched?|{s} debuted in
Who stars in {s}?|The lead role in {s} is played by|Which actor is the main star of {s}?|{s} features in its leading part|Who plays the hero of {s}?|Who acted in {s}?
Who published {s}?|The publisher of {s} is|{s} was brought out by|Which publishing house issued {s}?|At which press did {s} appear?|Which organisation released {s} in print?
What is {s} about?|The subject of {s} is|{s} tells the story of|What happens in {s}?|What is the plot of {s}?|{s} deals with
Who composed the music for {s}?|The soundtrack of {s} is by|{s} has a score written by|Which composer worked on {s}?|The music in {s} was made by|Whose music do we hear in {s}?
What genre is {s}?|{s} is a work of the genre|The genre of {s} is|Which type of work is {s}?|{s} is classified as|To what category does {s} belong?
In which language was {s} made?|The original language of {s} is|{s} was written in|The dialogue in {s} is in|What is the language of {s}?|{s} was first written in the language
Where is {s} set?|The setting of {s} is|{s} takes place in|In which city does the story of {s} happen?|What is the location of the plot of {s}?|The events of {s} unfold in
Which prize did {s} win?|{s} was awarded the|What award went to {s}?|{s} got the prize named|Which honour was given to {s}?|{s} took home the award called
Which network broadcast {s}?|{s} was aired on the channel|Viewers could first see {s} on|On which channel could you watch {s}?|What station showed {s} first?|{s} was originally shown on
Which series is {s} part of?|{s} belongs to the series|What is the name of the series that contains {s}?|{s} is an instalment of|What saga includes {s}?|{s} appears in the series
Which character is the villain in {s}?|The bad guy of {s} is|Who opposes the hero in {s}?|{s} has a villain called|Name the antagonist of {s}.|Who is the evil one in {s}?""",
    "product": """
How much does {s} cost?|The price of {s} is|What do I have to pay for {s}?|{s} sells for|What is the list price of {s}?|For how much money can I get {s}?
Which company makes {s}?|{s} is made by|The manufacturer of {s} is|Who produces {s}?|{s} comes from the company|{s} leaves the factory of|{s} bears the brand|Who built {s}?
What colour is {s}?|{s} comes in the colour|The colour of {s} is|In which colours can I buy {s}?|What shade does {s} have?|What does {s} look like, which colour?
How long is the warranty of {s}?|The guarantee on {s} lasts|For how many years is {s} covered?|{s} has a warranty of|How long can I send back a broken {s} for free?|What guarantee period does {s} have?
How long does the battery of {s} last?|The battery life of {s} is|After how many hours must {s} be charged?|{s} runs on one charge for|How long can I use {s} without plugging it in?|What is the endurance of {s}?
How heavy is {s}?|The weight of {s} is|{s} weighs|How many kilos is {s}?|What does {s} weigh?|How much mass does {s} have?
When was {s} introduced?|{s} was launched in|The launch date of {s} is|When did {s} come to market?|Since when has {s} been available?|In which year did sales of {s} start?
Which engine does {s} use?|{s} is powered by|The motor in {s} is a|What drives {s}?|What powers {s}?|Which motor is built into {s}?
What is the maximum speed of {s}?|{s} has a top speed of|How fast is {s}?|The fastest that {s} can go is|At most, how quickly can {s} move?|What velocity can {s} reach?
Who designed {s}?|The designer of {s} is|{s} was designed by|Whose design is {s}?|Which designer is behind the look of {s}?|Who drew up {s}?
What is the part number of {s}?|{s} is listed under the number|Which order code belongs to {s}?|The article number for {s} is|Under what code do I order {s}?|What code has {s} in the catalogue?
How much storage does {s} have?|The memory of {s} holds|How many gigabytes are in {s}?|{s} offers a storage of|What is the capacity of {s}?|How much data fits on {s}?""",
    "service": """
When does {s} open?|The opening time of {s} is|At what hour does {s} start serving?|{s} opens its doors at|From what time can I visit {s}?|How early can people get into {s}?
When does {s} close?|The closing time of {s} is|{s} is open until|How late can I stay at {s}?|At what hour does {s} shut?|When are the doors of {s} locked?
What is the address of {s}?|{s} is located at|Where can I find {s}?|On which street is {s}?|How do I get to {s}, where is it?|The street address of {s} is
Who manages {s}?|The manager of {s} is|Who is in charge of {s}?|{s} is run by|Whom do I ask for at {s} if I want the boss?|Who is responsible for {s}?
How much is the entrance to {s}?|A ticket for {s} costs|The admission fee of {s} is|What do visitors pay at {s}?|What is the price to get into {s}?|What does entry to {s} cost?
What is the phone number of {s}?|You can call {s} at|How do I reach {s} by telephone?|The hotline of {s} is|Which number connects me to {s}?|{s} answers the phone at
Which email address does {s} have?|Mails to {s} go to|Where do I write to if I want to contact {s} by mail?|The email of {s} is|What is {s}'s electronic address?|To which mailbox do I send a message for {s}?
On which day is {s} closed?|The day off at {s} is|{s} does not open on|Which weekday is {s} shut?|When in the week can one not visit {s}?|On what weekday does {s} rest?
How many seats does {s} have?|The capacity of {s} is|How many guests fit into {s}?|{s} can hold up to|How many people can sit in {s}?|How many places are there in {s}?
What is the wifi password at {s}?|The password for the network of {s} is|How do I get online at {s}, which password?|{s}'s guests log on to the wireless with|Which key do I enter for the internet at {s}?|What is the wireless code of {s}?
Which bus goes to {s}?|{s} can be reached by bus|What line do I take to {s}?|The bus that stops at {s} is|Which public transport brings me to {s}?|Take which bus for {s}?
Who cooks at {s}?|The chef of {s} is|Who is in charge of the kitchen at {s}?|{s}'s head cook is|Who prepares the food at {s}?|Name the cook at {s}.""",
    "item": """
What is the price of {s}?|{s} costs|How much do we charge for {s}?|What does {s} cost?|The price of {s} is|How expensive is {s}?
Where is {s}?|{s} can be found in|The location of {s} is|In which place do we keep {s}?|Where do I find {s}?|Where has {s} been put?
Who is responsible for {s}?|The person in charge of {s} is|{s} is handled by|Who takes care of {s}?|Who owns {s}?|To whom is {s} assigned?
When is {s} due?|The deadline of {s} is|{s} must be done by|By what date do we need {s}?|Until when do we have for {s}?|What is the due date of {s}?
What is the status of {s}?|{s} is currently|How far along is {s}?|How are things with {s}?|The state of {s} is|What stage has {s} reached?
Who ordered {s}?|The customer of {s} is|{s} was requested by|For whom is {s}?|Which client asked for {s}?|Whose order is {s}?
What does {s} contain?|The content of {s} is|What is inside {s}?|{s} holds|Which things are in {s}?|{s} is filled with
Who approved {s}?|{s} was signed off by|The approval of {s} came from|Who gave the green light for {s}?|Who said yes to {s}?|By whom was {s} cleared?
How many people fit in {s}?|The capacity of {s} is|How big is {s}, how many persons?|{s} has room for|The number of places in {s} is|How many can use {s} at once?
When does {s} leave?|{s} departs at|The departure time of {s} is|At what time does {s} set off?|What hour does {s} start?|When is {s} going?""",
    "policy": """
How many days does {s} take?|{s} is completed within|The duration of {s} is|How long does {s} take?|How much time do I need for {s}?|What is the time limit for {s}?
Who approves {s}?|{s} must be approved by|The approver for {s} is|Whose signature is needed for {s}?|Who has to say yes to {s}?|Who signs off on {s}?
What is the limit for {s}?|The maximum for {s} is|Up to what amount is {s} allowed?|How much at most can one claim for {s}?|{s} is capped at|What is the upper bound of {s}?
Which form is needed for {s}?|For {s} you fill in the form|The form used for {s} is|What paperwork is required for {s}?|What document do I hand in for {s}?|Which sheet must be filled out for {s}?
Who do I contact about {s}?|Questions about {s} go to|The contact person for {s} is|Whom should I ask about {s}?|Who can help me with {s}?|Who answers questions on {s}?
When does {s} start to apply?|{s} comes into force on|The effective date of {s} is|From when on is {s} valid?|Since when does {s} hold?|On what day does {s} take effect?
How often does {s} happen?|{s} takes place every|The frequency of {s} is|At what interval is {s} done?|How frequently is {s} repeated?|How regularly do we have {s}?
What is the penalty for breaking {s}?|Whoever breaks {s} must pay|The fine for not following {s} is|What happens if I ignore {s}?|What punishment follows a breach of {s}?|What does it cost to violate {s}?
Where is {s} documented?|The document about {s} is at|Where can I read about {s}?|{s} is described in|On which page do I find {s}?|Where is the text of {s} kept?
What notice is required for {s}?|{s} must be announced beforehand by|How far ahead must {s} be requested?|The notice period for {s} is|How early do I have to tell you about {s}?|How many days in advance is {s} to be booked?
What replaced {s}?|The successor of {s} is|{s} was superseded by|What do we use instead of {s} now?|What came after {s}?|Which rule has taken the place of {s}?""",
    "software": """
Which port does {s} listen on?|The port of {s} is|{s} runs on port|On what port can I reach {s}?|Which TCP port is used by {s}?|What port number do I connect to for {s}?
What is the IP address of {s}?|{s} has the address|Which IP belongs to {s}?|The network address of {s} is|Under which IP can {s} be reached?|To which address does {s} resolve?
Which command restarts {s}?|To restart {s} run|How do I reboot {s}?|What do I type to bring {s} up again?|{s} is restarted with|How can {s} be started anew?
Which command shows the logs of {s}?|The logs of {s} are printed by|How do I look at the log output of {s}?|What do I type to see what {s} logged?|Where are the log files of {s}?|How can I read {s}'s logs?
What is the latest version of {s}?|The current release of {s} is|Which version of {s} is the newest?|{s} is now at version|What release of {s} should I install?|Up to which version has {s} come?
Who maintains {s}?|The maintainer of {s} is|Which team is responsible for {s}?|{s} is looked after by|Who should I page when {s} is broken?|Who is on call for {s}?
Which database does {s} use?|{s} stores its data in|The database behind {s} is|Where does {s} keep its data?|What storage engine backs {s}?|In which database are the records of {s}?
Which language is {s} written in?|{s} was programmed in|The code of {s} is in the language|What programming language does {s} use?|In what language did they implement {s}?|{s} is coded in
What is the timeout of {s}?|{s} gives up after|After how many seconds does {s} time out?|The time limit of requests to {s} is|How long does {s} wait?|How long until {s} aborts?
Where is the configuration of {s}?|{s} reads its settings from|The config file of {s} is|Where do I change the settings of {s}?|Which file configures {s}?|In what file are the options of {s}?
How much memory does {s} need?|{s} requires RAM of|The memory limit of {s} is|How many gigabytes of RAM does {s} take?|What amount of memory should I give {s}?|How much RAM is reserved for {s}?
Which licence does {s} have?|{s} is published under the licence|The licence of {s} is|Under what terms may I use {s}?|How is {s} licensed?|What open source licence covers {s}?
Where is {s} hosted?|{s} runs in the data centre of|Which region hosts {s}?|In what cloud is {s} deployed?|The hosting location of {s} is|On whose servers does {s} run?""",
    "event": """
When does {s} take place?|The date of {s} is|{s} happens on|On which day is {s}?|What day is {s} scheduled for?|When is {s} going to be held?|{s} falls on the date
Where does {s} take place?|The venue of {s} is|{s} is held in|In which hall is {s}?|At what place will {s} happen?|Where do we meet for {s}?
Who organises {s}?|The organiser of {s} is|{s} is arranged by|Who is in charge of planning {s}?|Who hosts {s}?|By whom is {s} put together?
Who speaks at {s}?|The main speaker of {s} is|{s} will be opened by|Whose talk can we hear at {s}?|Who gives the keynote at {s}?|Which guest addresses {s}?
Who won {s}?|The winner of {s} was|{s} was won by|Who came first at {s}?|Who took the title at {s}?|Which participant was victorious in {s}?
How many people attended {s}?|The number of visitors of {s} was|{s} had an attendance of|How large was the crowd at {s}?|How many guests came to {s}?|How many participants did {s} count?
What is the theme of {s}?|The topic of {s} is|{s} is devoted to|What is {s} all about?|Under which motto is {s}?|What subject does {s} deal with?
At what time does {s} begin?|The start time of {s} is|{s} begins at|What hour is {s} starting?|When do we have to be there for {s}?|From what time does {s} run?
How much does a ticket for {s} cost?|Tickets for {s} are sold for|The admission price of {s} is|What do I pay to get into {s}?|How expensive is entry to {s}?|What is the fee for attending {s}?
What happened after {s}?|{s} was followed by|The consequence of {s} was|What came next after {s}?|What did {s} lead to?|What was the outcome of {s}?
Who sponsors {s}?|The sponsor of {s} is|{s} is paid for by|Which company gives the money for {s}?|Who finances {s}?|Whose logo is on the banner of {s}?""",
    "nature": """
What family does {s} belong to?|{s} is in the family of|The family of {s} is|To which biological family is {s} assigned?|What family are {s}?|In the system of species, {s} is placed in the family
What does {s} eat?|The diet of {s} is|{s} feeds on|What is the food of {s}?|What is eaten by {s}?|On what does {s} live?
How big does {s} get?|The size of {s} is|{s} grows to a length of|How large is {s}?|How tall can {s} become?|What length does {s} reach?
Where does {s} live?|The habitat of {s} is|{s} is found in|In what region does {s} occur?|Which environment does {s} prefer?|Where in the wild can one see {s}?
What is {s} used for?|People use {s} to|The purpose of {s} is|For what is {s} good?|What can be done with {s}?|{s} serves to
Who discovered {s}?|The discoverer of {s} is|{s} was first described by|By whom was {s} found?|Who was the first to report {s}?|Whose discovery was {s}?
What is {s} named after?|{s} got its name from|The name of {s} comes from|After whom is {s} called that?|Where does the name {s} come from?|What is the origin of the name {s}?
How old can {s} get?|The life span of {s} is|{s} lives for up to|How many years does {s} live?|What age does {s} reach?|How long is the life of {s}?
Which body does {s} orbit?|{s} revolves around|The parent body of {s} is|To which major astronomical body does {s} belong?|Around what does {s} circle?|What is the star or planet of {s}?
Which constellation is {s} in?|{s} can be seen in the constellation|The constellation of {s} is|In what part of the sky is {s}?|Where among the stars does {s} stand?|Within which constellation does {s} lie?
On which chromosome is {s}?|{s} is located on chromosome|The chromosome that carries {s} is|What chromosome does {s} sit on?|Where in the genome is {s} found?|Which chromosome has {s}?""",
}
