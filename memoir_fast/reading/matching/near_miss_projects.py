"""More material of the near misses: things of work and of the world. Form: see `near_miss_relations.py`.

Several relations of a class differ in one word only (who began or ended it, the first or the last, the most or the least), and each has a
casual or an inverted wording.
"""

from __future__ import annotations

PROJECTS: dict[str, str] = {
    "project": """
Who leads {s}?|Who is the project manager of {s}?|{s} is managed by|Who's running {s}?|Of {s}, who is in charge?|Name the lead of {s}.
Who pays for {s}?|Which sponsor funds {s}?|{s} is financed by|Where does the money for {s} come from?|Who puts up the cash for {s}?|Who is footing the bill for {s}?
Who started {s}?|Whose idea was {s}?|{s} was proposed by|Who first came up with {s}?|Who kicked off {s}?|Who got {s} going?
When does {s} end?|What is the deadline of {s}?|{s} must be finished by|By when do we have to be done with {s}?|{s} is due on|What's the end date of {s}?
When did {s} start?|What is the start date of {s}?|{s} began in|Since when are we working on {s}?|{s} has been under way since|How long ago did {s} get going?
What is the budget of {s}?|How much money may {s} spend?|{s} has a budget of|How much cash is set aside for {s}?|What can {s} cost at most?|{s}: how much money is there for it?
How much has {s} spent so far?|What are the costs of {s} until now?|Up to now {s} has used up|How much money is already gone on {s}?|How much has gone into {s} by now?
How many people work on {s}?|What is the size of the team on {s}?|The team of {s} counts|How big is the crew behind {s}?|{s}, how many heads is that?
Who tests the results of {s}?|Which person does quality control in {s}?|The results of {s} are checked by|Who looks over what {s} delivers?|Who makes sure that {s} works?
What is the goal of {s}?|What should {s} achieve?|{s} is meant to|What is {s} for?|Why are we doing {s}?|What do we want to get out of {s}?
What is the code name of {s}?|By which secret name does {s} go?|Inside the firm {s} is called|What do insiders call {s}?|What alias does {s} have?
What is the biggest risk in {s}?|What could go wrong with {s}?|The main danger for {s} is|What threatens {s} most?|What are you most afraid of with {s}?
Which customer ordered {s}?|For which client is {s} done?|{s} is carried out for|Who is the client behind {s}?|Who asked for {s}, which customer?
What is the next milestone of {s}?|What comes next in {s}?|The next step of {s} is|Which stage does {s} reach next?|What's coming up in {s}?""",
    "course": """
Who teaches {s}?|Who is the lecturer of {s}?|{s} is taught by|Which professor gives {s}?|Who's the teacher in {s}?|{s}: who holds it?
Who marks the exam of {s}?|Who grades the papers of {s}?|The exams of {s} are corrected by|Which person gives the marks in {s}?|Whose red pen goes over the exams of {s}?
When is the exam of {s}?|What is the date of the test in {s}?|The final of {s} takes place on|On what day do we sit the exam in {s}?|When's the final for {s}?
How long is the exam of {s}?|How many minutes does the test of {s} last?|For the exam in {s} one has|How much time do I get in the test of {s}?|The exam of {s}, how long is it?
How many credits does {s} give?|What is {s} worth in credits?|For passing {s} one earns|How many points do I get for {s}?|What's the credit value of {s}?
Which room is {s} in?|Where does {s} take place?|{s} meets in|In what hall is {s} held?|Where do I have to go for {s}?|{s}: which room?
At what time does {s} begin?|When do classes of {s} start?|{s} starts at|How early is {s}?|What's the starting time of {s}?|What time do I have to be at {s}?
Which book is used in {s}?|What is the textbook of {s}?|In {s} everybody reads|Which text do I need to buy for {s}?|What do we read in {s}?
How many students are in {s}?|What is the number of participants of {s}?|{s} is attended by|How many people sit in {s}?|How full is {s}, how many students?
How many places does {s} have?|What is the most that {s} can take?|{s} is limited to|How many can sign up for {s}?|At how many students is {s} full?
What must one have passed before {s}?|Which course comes before {s}?|{s} requires|What do I need to get into {s}?|What should I take before {s}?
What does {s} cost?|How much is the fee for {s}?|The price of {s} is|What do they charge for {s}?|How much money do I need for {s}?
How do I sign up for {s}?|Where does one register for {s}?|One enrols in {s} by|What is the way to get into the list of {s}?|How can I join {s}?
What mark is needed to pass {s}?|From which grade on has one passed {s}?|{s} is passed with|How good must I be to get through {s}?|What grade gets me through {s}?""",
    "transport": """
How long does {s} take?|What is the travel time of {s}?|{s} needs for the whole way|How many minutes is one on {s}?|{s}: how long is the ride?
How often does {s} run?|At what intervals does {s} leave?|{s} departs every|How many times an hour does {s} go?|{s}: how frequently?
When does the first {s} leave?|At what time does {s} start in the morning?|In the morning {s} begins at|How early does {s} go?|When can I catch the first {s}?
When does the last {s} leave?|At what time does {s} stop at night?|The final departure of {s} is at|Until when does {s} go?|When do I miss the last {s}?
From which platform does {s} leave?|Where does {s} depart?|{s} leaves from|At what gate do I board {s}?|Which track is {s} on?
Where does {s} end?|What is the last stop of {s}?|{s} goes as far as|Which terminus does {s} have?|How far does {s} go, to which stop?
Where does {s} start?|What is the first stop of {s}?|{s} sets out from|At which place does {s} begin?|Where can one get on {s} at the beginning?
How much is a ticket for {s}?|What is the fare on {s}?|Riding on {s} costs|What do I pay to go with {s}?|What's the price of a ride on {s}?
How many stops does {s} have?|How often does {s} halt on the way?|{s} calls at a number of stops, namely|What is the number of halts of {s}?|How many times does {s} stop?
Who operates {s}?|Which company runs {s}?|{s} is operated by|Who's behind {s}?|Which firm is behind {s}?
Who drives {s} today?|Which driver is on {s}?|At the wheel of {s} is|Who steers {s} this morning?|Who's driving {s}?
May I take a bicycle on {s}?|What is the rule for bikes on {s}?|Bicycles on {s} are|Can bikes go on {s}?|Is a bike allowed on {s}?
How many seats does {s} have?|How many people fit into {s}?|{s} has room for|What is the capacity of {s}?|How many can ride on {s}?
Why is {s} delayed?|What is the reason for the delay of {s}?|{s} is late because of|What holds {s} up?|What's wrong with {s}, why so late?""",
    "supplier": """
What does {s} deliver?|Which goods do we get from {s}?|From {s} we buy|What do we order at {s}?|{s} supplies us with
On which day does {s} deliver?|When do the goods of {s} come?|{s} brings the goods on|What is the delivery day of {s}?|What day does the van of {s} come?
How long does {s} need to deliver?|What is the lead time of {s}?|An order from {s} arrives after|How many days do we wait for {s}?|How quickly does {s} send things?
Who is our contact at {s}?|Whom do we speak to at {s}?|At {s} we are looked after by|Which person there handles us at {s}?|Who's our man or woman at {s}?
Who signed the contract with {s}?|Whose signature is under the deal with {s}?|The deal with {s} was signed by|Who closed the contract with {s}?|Who put a name under the contract of {s}?
When does the contract with {s} end?|Until when are we bound to {s}?|The deal with {s} runs until|What is the expiry date of our contract with {s}?|How long does our contract with {s} still run, to which date?
How many days do we have to pay {s}?|What are the payment terms of {s}?|Bills from {s} are due within|By when must {s} have its money?|When is a bill of {s} to be paid?
What discount does {s} give us?|How much cheaper do we get things from {s}?|{s} grants us a discount of|What percentage do we save at {s}?|What rebate do we have at {s}?
What is the smallest order at {s}?|How much must we order from {s} at least?|{s} accepts orders from|What is the minimum order value of {s}?|What's the least I can order from {s}?
What is the largest order {s} can fill?|How much can {s} deliver at most?|{s} delivers no more than|What is the maximum {s} can send?|What's the most I can get out of {s}?
Which bank account does {s} have?|To what account do we pay {s}?|Money for {s} goes to|What is the IBAN of {s}?|Where do I send money for {s}, which account?
What is our customer number at {s}?|Under which number does {s} know us?|At {s} we are registered as|Which client number do we give {s}?|What are we called in the books of {s}, which number?
Where is the warehouse of {s}?|From which place does {s} ship?|The goods of {s} come from|Where does {s} store its goods?|Where is the stuff of {s} kept?
Who complains to {s} about faults?|Which of us reports bad goods to {s}?|Bad goods are reported to {s} by|Who calls {s} when something is broken?|Who tells {s} off for faulty goods?""",
    "flat": """
Who lives in {s}?|Who is the tenant of {s}?|{s} is rented by|Who's staying in {s}?|{s}: who has moved in there?
Who lived in {s} before?|Who was the last tenant of {s}?|{s} used to be rented by|Who moved out of {s}?|Who used to live in {s}?
Who owns {s}?|Who is the landlord of {s}?|{s} belongs to|Whose property is {s}?|Who is the proprietor of {s}?
How much is the rent of {s}?|What does {s} cost a month?|The monthly rent of {s} is|What does one pay for living in {s}?|What's the rent for {s}?
How much is the deposit for {s}?|What sum is held as security for {s}?|The deposit of {s} amounts to|How much money is put down for {s}?|How much security do they want for {s}?
How large is {s}?|How many square metres does {s} have?|The area of {s} is|How much space is there in {s}?|What's the size of {s}?
How many rooms does {s} have?|What is the number of rooms in {s}?|{s} consists of|How many bedrooms are in {s}?|{s}: how many rooms?
On which floor is {s}?|How many stairs up is {s}?|{s} lies on the floor|Which storey is {s} on?|What level is {s} on?
When did the tenant move into {s}?|Since when has {s} been let?|{s} has been rented since|What was the date of moving into {s}?|When did they move into {s}?
When will {s} be free?|From what date can one rent {s}?|{s} can be had from|When does the next one get {s}?|From when is {s} available?
Which colour are the walls of {s}?|In what colour is {s} painted?|The walls of {s} are|What paint was used in {s}?|What's the wall colour in {s}?
Who has the spare key to {s}?|Where is the second key of {s}?|A further key to {s} is with|Whom do I ask for a key to {s}?|Who holds another key for {s}?
Which parking space belongs to {s}?|Where does the tenant of {s} park?|With {s} goes the parking space|What is the car space of {s}?|Where can one leave the car at {s}?
What is broken in {s}?|What needs repair in {s}?|In {s} one must mend|Which damage was reported in {s}?|What isn't working in {s}?""",
    "character": """
Who plays {s}?|Which actor took the part of {s}?|{s} is played by|Who's the actor behind {s}?|The role of {s} went to
Who created {s}?|Which author invented {s}?|{s} was thought up by|From whose mind does {s} come?|Whose invention is {s}?
Who is the voice of {s}?|Who speaks {s}?|{s} is voiced by|Whose voice do we hear as {s}?|{s} talks with the voice of
In which film does {s} appear?|Which film has {s} in it?|{s} turns up in the film|What movie features {s}?|Which picture can one see {s} in?
In which book was {s} first seen?|Where did {s} appear for the first time?|{s} made a first appearance in|What was the debut of {s}?|In what story did {s} start out?
Who killed {s}?|By whose hand did {s} die?|{s} was slain by|Who is the murderer of {s}?|Who did {s} in?
Whom did {s} kill?|Who was the victim of {s}?|{s} murdered|Who died by the hand of {s}?|Whose life did {s} take?
Who is the enemy of {s}?|Against whom does {s} fight?|The great foe of {s} is|Which rival does {s} have?|Who is out to get {s}?
Who is the best friend of {s}?|Whom does {s} trust most?|At the side of {s} is|Which companion does {s} have?|Who's {s}'s pal?
Whom does {s} love?|Who is the sweetheart of {s}?|The heart of {s} belongs to|With whom is {s} in love?|Who is it that {s} adores?
Which weapon does {s} carry?|With what does {s} fight?|{s} is armed with|What is in the hand of {s} in battle?|What does {s} hit enemies with?
Where does {s} live?|What is the home of {s}?|{s} dwells in|In which place is {s} at home?|Where would one find {s} at home?
What is the power of {s}?|What can {s} do that others cannot?|{s} has the gift of|Which special skill does {s} possess?|What is so special about {s}'s abilities?
Who is the brother of {s}?|Which brother does {s} have?|{s} grew up with a brother called|What is {s}'s brother called?|{s} has a brother; who?
Who is the child of {s}?|What is the name of {s}'s son or daughter?|{s} is the parent of|Whom did {s} bring up as a child?|Who has {s} for a parent?""",
    "ship": """
Who is the captain of {s}?|Who commands {s}?|{s} sails under the command of|Who's the skipper of {s}?|Name the commander of {s}.
Who built {s}?|Which shipyard made {s}?|{s} was built by|In what yard was {s} laid down?|Whose yard turned out {s}?
When was {s} launched?|In which year did {s} first touch the water?|{s} was launched in|What is the launch date of {s}?|When did they launch {s}?
When did {s} sink?|In what year was {s} lost?|{s} went down in|On which day did {s} go under?|When was {s} wrecked?
Where did {s} sink?|In which waters does the wreck of {s} lie?|{s} lies on the ground of|What is the place where {s} went down?|Where is the wreck of {s}?
Why did {s} sink?|What was the cause of the loss of {s}?|{s} was lost because of|What brought {s} down?|How come {s} went down?
After whom is {s} named?|Who gave {s} its name?|{s} bears the name of|Whose name does {s} carry?|Who is {s} called after?
What is the home port of {s}?|In which harbour is {s} at home?|{s} is registered in|Where does {s} belong to?|What port is {s} from?
Under which flag does {s} sail?|Whose flag does {s} fly?|{s} shows the flag of|Which nation's ship is {s}?|What colours does {s} sail under?
How long is {s}?|What is the length of {s}?|From bow to stern {s} measures|How many metres long is {s}?|What's the length of {s} from end to end?
How fast is {s}?|What is the top speed of {s}?|{s} makes up to|How many knots does {s} do?|How quick is {s}?
How many crew does {s} have?|How many sailors serve on {s}?|The crew of {s} numbers|How many hands are there on {s}?|How large is the crew of {s}?
How many passengers does {s} carry?|For how many guests is {s} built?|{s} takes on board up to|How many travellers fit on {s}?|How many people can travel on {s}?
What does {s} carry?|What is the cargo of {s}?|{s} is loaded with|Which goods are in the hold of {s}?|What's on board {s}, what goods?
Where is {s} heading?|What is the destination of {s}?|{s} is on its way to|Which port does {s} call at next?|Where's {s} off to?""",
    "landform": """
How high is {s}?|What is the height of {s}?|{s} rises to|How many metres above the sea is {s}?|How tall is {s}?
How long is {s}?|What is the length of {s}?|{s} stretches over|How many kilometres does {s} run?|From end to end, how long is {s}?
How deep is {s}?|What is the depth of {s}?|At its deepest {s} reaches|How far down does {s} go?|How deep down does {s} reach?
Where does {s} begin?|Where is the source of {s}?|{s} rises in|From where does {s} spring?|At what place does {s} start?
Where does {s} end?|Where is the mouth of {s}?|{s} flows into|Into which water does {s} run?|What does {s} run into at its end?
In which country is {s}?|To which state does {s} belong?|{s} lies in|What land is {s} part of?|Which country has {s}?
Who discovered {s}?|Which explorer found {s}?|{s} was first seen by|Who came upon {s} first?|By whom was {s} discovered?
Who first climbed {s}?|Who was the first person on top of {s}?|The first to reach the top of {s} was|Who conquered {s}?|Who made the first ascent of {s}?
When was {s} first climbed?|In which year did people first reach the top of {s}?|{s} was conquered in|What is the date of the first climb of {s}?|What was the year of the first ascent of {s}?
After whom is {s} named?|Where does the name of {s} come from?|{s} got its name from|Whose name does {s} bear?|Who is {s} called after?
Which town lies at {s}?|What is the nearest town to {s}?|Next to {s} lies|Which place is close to {s}?|What's the closest town to {s}?
Which animals live at {s}?|What wildlife is found around {s}?|{s} is home to|Which creatures can one see at {s}?|What animals are there around {s}?
When did {s} last erupt or flood?|In which year was the last disaster at {s}?|The last time {s} broke out was in|When was {s} last dangerous?|What was the year when {s} last went off?
Which park contains {s}?|In which nature reserve is {s}?|{s} is protected in|What national park is {s} in?|Whose park is {s} in, what is the park called?
Which road goes to {s}?|How does one get to {s}?|{s} is reached by|What is the way to {s}?|How do I drive to {s}?""",
    "band": """
Who sings in {s}?|Who is the singer of {s}?|The voice of {s} is|Who's on vocals in {s}?|{s} is fronted by
Who plays the drums in {s}?|Who is the drummer of {s}?|On drums {s} has|Which member of {s} sits at the drums?|Who's the drummer in {s}?
Who plays the guitar in {s}?|Who is the guitarist of {s}?|On guitar {s} has|Whose guitar is heard in {s}?|Who does the guitar parts for {s}?
Who writes the songs of {s}?|Which member composes for {s}?|The songs of {s} come from|Whose texts do {s} perform?|Who comes up with the songs of {s}?
Who left {s}?|Which member is no longer in {s}?|{s} goes on without|Who walked out on {s}?|Who quit {s}?
Who joined {s} last?|Who is the newest member of {s}?|{s} was recently joined by|Who's new in {s}?|Which recruit does {s} have?
When did {s} form?|In which year did {s} get together?|{s} was formed in|Since when has {s} existed?|When did {s} start out?
When did {s} split up?|In what year did {s} break up?|{s} ended in|When was it over with {s}?|When did {s} call it a day?
What was the first album of {s}?|What is the debut of {s} called?|{s} began with the album|Which record did {s} bring out first?|What did {s} record first?
What is the latest album of {s}?|Which record of {s} is the newest?|{s} has just brought out|What did {s} release last?|What's the new record of {s}?
Which label publishes {s}?|With what record company is {s}?|{s} is signed to|Who brings out the records of {s}?|Who puts out {s}'s music?
What kind of music does {s} play?|What is the genre of {s}?|{s} makes music of the style|To which style does {s} belong?|What sort of sound does {s} have?
Where is {s} from?|In which town was {s} founded?|{s} comes from|What is the home town of {s}?|Where did {s} get started, which town?
Who manages {s}?|Who is the manager of {s}?|The business of {s} is done by|Who looks after the dates of {s}?|Who handles business for {s}?
What is the biggest hit of {s}?|For which song is {s} best known?|{s} became famous with|Which single of {s} sold most?|Which tune made {s} famous?""",
    "language": """
How many people speak {s}?|What is the number of speakers of {s}?|{s} is spoken by|How many native speakers does {s} have?|How widely is {s} spoken, by how many?
Where is {s} spoken?|In which region do people use {s}?|{s} is at home in|In what place does one hear {s}?|In what parts do they speak {s}?
To which family does {s} belong?|What languages is {s} related to?|{s} is part of the family|Which group of languages contains {s}?|What family of languages is {s} in?
Which script is {s} written in?|What alphabet does {s} use?|{s} is written with|In which letters is {s} put down?|What kind of letters does one write {s} with?
How many letters does {s} have?|How long is the alphabet of {s}?|The alphabet of {s} has|What is the number of characters in {s}?|How many signs are in the alphabet of {s}?
How many cases does {s} have?|What is the number of grammatical cases in {s}?|Nouns in {s} have cases, namely|Into how many cases does {s} put nouns?|How many cases are there in {s}?
How do you say hello in {s}?|What is the greeting in {s}?|In {s} people greet with|What do speakers of {s} say when they meet?|How does one greet somebody in {s}?
How do you say thank you in {s}?|What is the word for thanks in {s}?|In {s} one thanks with|How does one express thanks in {s}?|Thanks, how is that said in {s}?
Who wrote the first grammar of {s}?|Which scholar described the rules of {s} first?|The oldest grammar of {s} is by|Who first set down the grammar of {s}?|By whom is the earliest grammar of {s}?
Who wrote the dictionary of {s}?|Which scholar collected the words of {s}?|The standard dictionary of {s} is by|Who put together the word list of {s}?|Whose dictionary of {s} do people use?
What is the word for water in {s}?|How do you say water in {s}?|Water in {s} is|What do they call water in {s}?|Water, what is that in {s}?
What is the oldest text in {s}?|Which book was first written in {s}?|Writing in {s} begins with|What early writing in {s} is known?|What was the first thing written in {s}?
What code stands for {s}?|Which abbreviation does {s} have?|In lists {s} is shortened to|What is the ISO code of {s}?|What's {s} in short, as a code?
Which dialect of {s} is the standard?|On what dialect is written {s} based?|Standard {s} comes from the dialect of|What variety of {s} is taught?|Which way of speaking is the basis of proper {s}?""",
    "battle": """
Who won {s}?|Who was the winner of {s}?|{s} was won by|Which side came out on top in {s}?|The victory in {s} went to
Who lost {s}?|Who was beaten in {s}?|{s} was lost by|Which side was defeated in {s}?|Who came off worse in {s}?
When was {s}?|In which year did {s} take place?|{s} was fought in|What is the date of {s}?|When did {s} happen?|What year was {s}?
Where was {s}?|At what place did {s} happen?|{s} was fought near|What is the site of {s}?|In which region was {s} fought?|Where did they fight {s}?
How long did {s} last?|How many days did {s} go on?|{s} was over after|What was the duration of {s}?|{s}, how long did it take?
How many died in {s}?|What were the losses in {s}?|{s} cost the lives of|How many people were killed in {s}?|How many did not survive {s}?
How many soldiers fought in {s}?|What was the strength of the armies in {s}?|The armies of {s} numbered|How many men took part in {s}?|How large were the forces in {s}?
Who commanded the attackers in {s}?|Which general led the attack in {s}?|The attack in {s} was led by|Who was at the head of the attacking army in {s}?|Who was the attacking commander in {s}?
Who commanded the defenders in {s}?|Which general led the defence in {s}?|The defence in {s} was led by|Who held the lines in {s}?|Who was the defending commander in {s}?
Why was {s} fought?|What was the reason for {s}?|{s} broke out over|What was {s} about?|What did they fight about in {s}?
Which treaty ended {s}?|With what agreement did {s} finish?|{s} was ended by|What peace followed {s}?|Which peace deal closed {s}?
Who fell in {s}?|Which famous man died in {s}?|{s} was the death of|Which leader lost his life in {s}?|What well-known person was killed in {s}?
Which war was {s} part of?|To what war does {s} belong?|{s} was a battle of|In which conflict did {s} happen?|What larger war did {s} belong to?
Who painted {s}?|Which artist made a picture of {s}?|A famous picture of {s} is by|Whose painting shows {s}?|Who did the painting of {s}?""",
    "award": """
Who won {s} last year?|Who was the latest winner of {s}?|{s} was last given to|Who took home {s} last time?|{s} went last year to
Who was the first to win {s}?|Who got {s} first?|The very first {s} went to|Which person started the list of winners of {s}?|Who received {s} before anyone else?
Who founded {s}?|Who set up {s}?|{s} was created by|Whose idea was {s}?|Who brought {s} into being?
Who awards {s}?|Which body gives out {s}?|{s} is given by|Who hands over {s}?|Which institution is behind {s}?
Who sits on the jury of {s}?|Who decides on {s}?|The winners of {s} are chosen by|Whose vote counts for {s}?|Who picks the winners of {s}?
Who won {s} most often?|Who holds the record number of {s}?|{s} was won most by|Which person has more of {s} than anybody?|Who has got the most of {s}?
What is {s} given for?|For which merit does one get {s}?|{s} honours|What must one do to win {s}?|What do people get {s} for?
How much money comes with {s}?|What is {s} worth?|The winner of {s} gets the sum of|How much cash does {s} bring?|What's the prize money of {s}?
When is {s} given out?|On what date is the ceremony of {s}?|{s} is awarded each year in|In which month do they hand over {s}?|When's the {s} ceremony?
Where is {s} given out?|In which city is the ceremony of {s}?|{s} is awarded in|What is the place of the {s} ceremony?|Where's the {s} ceremony?
When was {s} first given?|In which year did {s} begin?|{s} has been awarded since|How long has {s} existed, since what year?|What was the first year of {s}?
After whom is {s} named?|Whose name does {s} carry?|{s} honours the memory of|Which person gave {s} its name?|Who is {s} named in honour of?
How often is {s} given?|Every how many years is {s} awarded?|{s} is given every|At what intervals do they award {s}?|How frequently is there a {s}?
What does the trophy of {s} look like?|Which shape has the statue of {s}?|The winner of {s} gets a figure of|What does one hold in the hand after winning {s}?|What's the {s} trophy like?
By when must one apply for {s}?|What is the closing date for {s}?|Entries for {s} are taken until|When is the deadline for handing in works for {s}?|Until when can I enter for {s}?""",
    "machine": """
Who operates {s}?|Which worker runs {s}?|{s} is operated by|Who's at the controls of {s}?|Who works at {s}?
Who maintains {s}?|Which technician services {s}?|{s} is kept in order by|Whom do I call to have {s} serviced?|Who keeps {s} running?
Who made {s}?|Which maker does {s} come from?|{s} was manufactured by|What brand is {s}?|Who is the manufacturer of {s}?
When was {s} last serviced?|What is the date of the last service of {s}?|{s} was last looked after on|When did they last check {s}?|The last time somebody serviced {s} was
When is {s} next serviced?|What is the date of the next service of {s}?|{s} will be looked after on|When do they check {s} again?|When's the coming service of {s}?
How often is {s} serviced?|At what intervals is {s} looked after?|{s} gets a service every|After how many hours is {s} checked?|How many times a year is {s} serviced?
What is the maximum load of {s}?|How much can {s} carry at most?|{s} takes up to|What is the most one may put on {s}?|How heavy a load can {s} take?
What is the minimum pressure of {s}?|How low may the pressure of {s} get?|The pressure of {s} must be at least|Below what pressure does {s} stop?|What's the lowest pressure for {s}?
What is the maximum pressure of {s}?|How high may the pressure of {s} get?|The pressure of {s} must stay below|Above what pressure is {s} in danger?|What's the highest pressure for {s}?
What temperature does {s} run at?|How hot is {s} when it works?|{s} works at|To how many degrees is {s} set?|What heat does {s} need?
How many parts does {s} make an hour?|What is the output of {s}?|{s} produces per hour|How much comes out of {s} in an hour?|How much does {s} turn out hourly?
Which oil does {s} need?|What do I put into {s} to grease it?|{s} is lubricated with|What lubricant goes into {s}?|What kind of oil goes in {s}?
Where is the emergency stop of {s}?|How do I stop {s} at once?|{s} is stopped at the button|Which switch halts {s} in an emergency?|Where do I hit stop on {s} in an emergency?
Where does {s} stand?|In which hall is {s}?|{s} is set up in|What is the place of {s} in the plant?|Where can I find {s}, in which hall?
What did {s} cost?|How much was paid for {s}?|{s} was bought for|What was the price of {s}?|What did they pay for {s}?""",
    "insurance": """
What does {s} cover?|Against what does {s} protect?|{s} pays in case of|Which damage is included in {s}?|What's covered by {s}?
What does {s} not cover?|Which damage is excluded from {s}?|{s} never pays for|What is left out of {s}?|What kind of damage am I not insured for with {s}?
How much does {s} cost a year?|What is the premium of {s}?|For {s} one pays every year|What do I pay for {s}?|What's the yearly price of {s}?
How much does {s} pay at most?|What is the limit of {s}?|{s} pays up to|What is the largest sum from {s}?|Up to what sum does {s} pay?
How much must I pay myself with {s}?|What is the excess of {s}?|With {s} the customer bears|Which part of a damage does {s} leave to me?|How much of the damage is mine with {s}?
When does {s} begin?|From what date am I covered by {s}?|{s} is valid from|What is the first day of {s}?|From when on does {s} count?
When does {s} end?|Until what date am I covered by {s}?|{s} is valid until|What is the last day of {s}?|When does {s} run out?
Who is insured by {s}?|Which persons does {s} include?|{s} protects|For whom was {s} taken out?|Which people are in {s}?
Who gets the money from {s}?|Who is the beneficiary of {s}?|{s} is paid out to|To whom does {s} go if I die?|Who will be paid by {s}?
Who sold us {s}?|Which agent arranged {s}?|{s} was arranged by|Through whom did we get {s}?|Who talked us into {s}, which agent?
Which company offers {s}?|Who is the insurer behind {s}?|{s} is a product of|What firm stands behind {s}?|Who is {s} with, which company?
How do I report a claim to {s}?|Where is damage reported for {s}?|Claims on {s} are made by|What do I do to get money from {s}?|How do I claim on {s}?
How fast must damage be reported to {s}?|Within how many days does {s} want to hear of damage?|Damage must reach {s} within|How long may I wait before I tell {s}?|What's the time limit for telling {s} about damage?
What is the number of {s}?|Which policy number does {s} have?|{s} is filed under the number|What number do I quote for {s}?|What's the number on {s}?
In which countries is {s} valid?|Where in the world does {s} apply?|{s} protects travellers in|Which places are included in {s}?|Where does {s} hold good, which countries?""",
}

# "~" stands for an invented name, "#" for a number, "@" for a first name.
PROJECT_SUBJECTS: dict[str, tuple[str, ...]] = {
    "project": ("project|~,Falcon,Aurora,Beacon,Compass,Delta,Harvest,Lighthouse,Mosaic,Nimbus,Orion", "the|~|project,pilot,programme,rollout",
                "the|website,warehouse,payroll,archive,cloud,factory,office,data,invoice,school|migration,relaunch,move,upgrade,merger,audit,renovation", "project|A#,B#,K#,P#"),
    "course": ("the|history,physics,statistics,drawing,French,Latin,chemistry,law,music,welding,first aid,pottery,accounting,ethics|course,seminar,lecture,class,workshop",
               "~|Theory,Analysis,Grammar,Methods", "course|A#,C#,M#", "Introduction to,Advanced|Algebra,Botany,Ethics,Logic,Rhetoric,Genetics,Finance,Poetry,Optics,Geology"),
    "transport": ("bus,tram,train,ferry,line,flight|#,A#,K#", "the|~|express,ferry,shuttle,night bus,tram,railway", "the|airport,harbour,school,hospital,night,city,mountain,staff|bus,shuttle,train,tram,ferry",
                  "the bus to,the train to,the ferry to|~"),
    "supplier": ("~|Foods,Paper,Steel,Timber,Parts,Packaging,Chemicals,Textiles,Fruit,Glass", "the|~|dairy,mill,bakery,foundry,nursery,brewery,printer",
                 "our|paper,coffee,milk,steel,fruit,timber,cable,paint,flower|supplier,dealer,wholesaler", "~|& Sons,Brothers"),
    "flat": ("flat,apartment,house,unit,studio|#,A#,B#,C#", "the|upper,lower,left,right,front,rear,garden,attic,corner|flat,apartment,studio", "#|~|Street,Road,Lane,Square", "the|~|flat,cottage,bungalow,villa",
             "@'s|flat,house,cottage,studio"),
    "character": ("@|~", "Captain,Doctor,Princess,King,Queen,Lord,Professor,Sister,Uncle|~", "the|Red,Black,White,Grey,Silent,Iron,Golden,Mad|Knight,Witch,Wizard,Hunter,Queen,Giant,Fox,Ghost,Monk,Thief", "~"),
    "ship": ("the|~", "the|MS,SS,HMS,USS|~", "the|Queen,Princess,Lady,King,Star,Spirit|of ~,@", "the|ferry,frigate,tanker,yacht,schooner,trawler,submarine,cruiser|~"),
    "landform": ("Mount,Lake,Cape,Glacier|~", "the|~|River,Glacier,Canyon,Falls,Desert,Peak,Volcano,Gorge,Cave,Forest", "the|~", "~|Peak,Falls,Island,Pass,Ridge,Beach"),
    "band": ("the|~|Brothers,Sisters,Quartet,Orchestra,Trio,Choir,Band", "The|Broken,Silent,Electric,Flying,Velvet,Lonely,Crazy|Lemons,Wheels,Tigers,Mirrors,Poets,Ghosts,Engines,Gardens", "~", "@ and the|Lemons,Wheels,Tigers,Mirrors,Poets,Ghosts,Engines"),
    "language": ("~", "Old,Middle,Low,High,Northern,Southern,Western,Eastern|~", "Swahili,Basque,Welsh,Finnish,Latin,Maltese,Quechua,Hindi,Thai,Icelandic,Zulu,Tamil,Breton"),
    "battle": ("the|battle,siege,fall,sack,relief,storming|of ~", "the|~|war,uprising,revolt,campaign,rebellion,raid", "the|first,second,third,last|battle of,siege of|~", "the|northern,southern,peasant,winter,border,naval|war,revolt,campaign"),
    "award": ("the|~|Prize,Medal,Award,Cup,Trophy,Fellowship", "the|golden,silver,crystal,bronze|bear,lion,rose,pen,globe,lamp,camera,harp", "the|~ Prize for|chemistry,poetry,peace,design,film,drama,history", "the|science,film,book,music,design,bravery,teaching,press|prize,award,medal"),
    "machine": ("the|~|press,lathe,oven,robot,packer,cutter", "press,lathe,pump,line,oven,robot,crane,mill|#,A#,B#", "the|bottling,packing,welding,drilling,sorting,washing,cutting,milling|machine,line,unit,robot",
                "the|old,new,big,small,left,right|press,lathe,oven,saw,pump,compressor,conveyor"),
    "insurance": ("the|travel,car,home,pet,dental,life,fire,flood,bicycle,legal,theft|insurance,policy,cover", "the|~|policy,cover,plan", "~|Care,Protect,Shield", "policy|A#,K#,T#", "@'s|travel,car,home,life,pet|insurance,policy"),
}  # fmt: skip
