"""More classes of subjects, and what people ask about them at work and at home, in the format of
`near_miss_relations.py`.

Many relations of a class share words and kinds of answer (who/who, when/when, how much/how much), so another question
about the same subject is a real near miss. The sentences are the project's own.
"""

from __future__ import annotations

EVERYDAY: dict[str, str] = {
    "department": """
Who heads {s}?|Who is the head of {s}?|Name the person who leads {s}.|{s} is led by|Who's in charge of {s} now?|Who is the leader of {s}?
Who is the deputy in {s}?|Who stands in for the head of {s}?|The second in command at {s} is|Who fills in at {s} while its boss is away?|Which person is number two in {s}?
On which floor is {s}?|Where does {s} sit?|{s} has its desks on|What floor do I go to for {s}?|Where in the building can I find {s}?|Which level houses {s}?
How many people are in {s}?|What is the headcount of {s}?|How big is the team of {s}?|{s} has a staff of|How many colleagues work for {s}?|What size is {s}?
What is the budget of {s}?|How much money may {s} spend this year?|{s} has a yearly budget of|What funds were given to {s}?|How much can {s} spend?
When does {s} have its weekly meeting?|On which day does {s} meet?|The team of {s} gets together every|What day is the regular get-together of {s}?|When is the weekly round of {s}?
What is the extension of {s}?|Which number do I dial for {s}?|How can I phone {s}?|You reach {s} by phone at|Under what number does {s} pick up?
Which mailbox does {s} use?|What is the email address of {s}?|Where do I send mail for {s}?|Messages for {s} go to the address|How do I write to {s}?
Which cost centre belongs to {s}?|What cost centre do I book {s} under?|Expenses of {s} are booked on|The accounting code of {s} is|What number do bills for {s} carry?
Which tool does {s} use to track its work?|Where does {s} keep its tasks?|{s} plans its work in|In which system are the tickets of {s}?|What software organises the work of {s}?
Who joined {s} last?|Who is the newest member of {s}?|The latest hire in {s} is|Which colleague started most recently in {s}?|Who is new at {s}?
Who looks after the budget of {s}?|Which person controls the spending of {s}?|The money of {s} is watched by|Who keeps an eye on what {s} spends?|Who is the controller for {s}?""",
    "recipe": """
How long does {s} bake?|What is the baking time of {s}?|How many minutes does {s} need in the oven?|{s} stays in the oven for|For how long must {s} be in the oven?
At what temperature is {s} baked?|How hot must the oven be for {s}?|{s} is baked at|What heat does {s} need?|To how many degrees do I set the oven for {s}?
How much flour goes into {s}?|What amount of flour is in {s}?|{s} needs flour, namely|How many grams of flour do I take for {s}?|What quantity of flour does {s} call for?
How much sugar goes into {s}?|What amount of sugar is in {s}?|How sweet is {s}, how many spoons of sugar?|{s} takes sugar, about|How many grams of sugar do I need for {s}?
Which cheese is used for {s}?|What cheese belongs in {s}?|{s} is made with the cheese|What kind of cheese do I buy for {s}?|The right cheese in {s} is
Which spice gives {s} its taste?|What spice is in {s}?|What is {s} seasoned with?|{s} gets its flavour from|Which seasoning goes into {s}?
How many people does {s} serve?|For how many guests is {s} enough?|How many portions does {s} make?|{s} feeds|How many servings are in {s}?
Who invented {s}?|Whose recipe is {s}?|Who came up with {s}?|{s} was first cooked by|From whom do we have the recipe for {s}?
How long does {s} keep in the fridge?|For how many days can I store {s}?|{s} stays fresh for|How soon does {s} go bad?|What is the shelf life of {s}?
What is served with {s}?|What goes well with {s}?|Which side dish comes with {s}?|{s} is eaten together with|What do we put next to {s} on the plate?
How long must the dough of {s} rest?|What is the resting time for {s}?|{s} has to rest for|For how long do I let {s} stand before baking?|How much rest does the dough for {s} get?
Which wine suits {s}?|What wine do you drink with {s}?|The wine that goes with {s} is|Which bottle do I open for {s}?|What do we drink with {s}?""",
    "medicine": """
What is the daily dose of {s}?|How much {s} should be taken a day?|How many tablets of {s} may one take each day?|{s} is taken in a daily amount of|What is the usual dosage for {s}?
What is the highest dose of {s}?|How much {s} is too much?|The maximum amount of {s} is|What is the most {s} anyone may take?|Where is the upper limit for {s}?
What are the side effects of {s}?|Which unwanted effects does {s} have?|What can happen when I take {s}?|{s} may cause|What problems come with {s}?
What is {s} used for?|Against which illness does {s} help?|When do doctors give {s}?|{s} is used to treat|What does {s} cure?|Which condition is {s} meant for?
How should {s} be stored?|At what temperature do we keep {s}?|Where must {s} be kept?|{s} has to be stored|What is the right place to keep {s}?
Who makes {s}?|Which company produces {s}?|{s} is made by|What is the manufacturer of {s}?|Which firm sells {s}?
What is the active ingredient of {s}?|Which substance is in {s}?|What makes {s} work?|{s} contains the substance|What is inside {s}?
How long does {s} work?|For how many hours does {s} last?|{s} keeps working for|When does the effect of {s} wear off?|What is the duration of the effect of {s}?
How quickly does {s} work?|After how many minutes does {s} start to help?|{s} begins to act after|How soon will I feel {s}?|When does {s} kick in?
From what age can children take {s}?|How old must a child be for {s}?|{s} may be given from the age of|What is the minimum age for {s}?|Who is too young for {s}?
How much does a pack of {s} cost?|What is the price of {s}?|A pack of {s} is sold at|What do I pay for {s} at the pharmacy?|How expensive is {s}?
Should {s} be taken before or after meals?|When in the day do I take {s}?|{s} is best taken|At what time of day is {s} taken?|Do I take {s} with food?
When was {s} approved?|In which year did {s} get its approval?|{s} was approved in|Since when has {s} been allowed?|What is the approval date of {s}?""",
    "law": """
When did {s} come into force?|Since when does {s} apply?|{s} took effect in|From what date is {s} valid?|In which year did {s} become binding?
When was {s} passed?|On what day did parliament adopt {s}?|{s} was adopted in|What year was {s} voted through?|When did the vote on {s} succeed?
Who proposed {s}?|Which politician drafted {s}?|{s} was introduced by|Whose idea was {s}?|Who brought {s} before parliament?
Who signed {s}?|Whose signature is under {s}?|{s} was signed by|Who put their name to {s}?|Which president signed {s}?
What is the fine under {s}?|How much do I pay if I break {s}?|{s} is punished with|What penalty does {s} foresee?|How high is the fine for a breach of {s}?
What does {s} regulate?|What is {s} about?|The subject of {s} is|What field does {s} cover?|Which matter is ruled by {s}?
Which authority enforces {s}?|Who watches over {s}?|{s} is enforced by|Which office makes sure that {s} is followed?|Who checks whether people respect {s}?
Which court struck down {s}?|Where was {s} declared void?|{s} was overturned by|What court ruled against {s}?|Which judges rejected {s}?
When was {s} last amended?|What is the year of the latest change to {s}?|{s} was last changed in|When did they last revise {s}?|How recent is the newest version of {s}?
How many articles does {s} have?|Into how many sections is {s} divided?|{s} consists of|What is the number of paragraphs in {s}?|How long is {s}, how many articles?
Who is exempt from {s}?|To whom does {s} not apply?|{s} makes an exception for|Which people need not follow {s}?|What group is left out by {s}?
When does {s} expire?|Until when is {s} valid?|{s} runs out in|What is the last day of {s}?|When will {s} end?""",
    "club": """
Who coaches {s}?|Who is the coach of {s}?|{s} is trained by|Which trainer works with {s}?|Who trains {s} at the moment?
Who is the captain of {s}?|Which player leads {s} on the field?|{s} is captained by|Who wears the armband at {s}?|Name the captain of {s}.
Who is the top scorer of {s}?|Which player scored most goals for {s}?|Most goals for {s} came from|Who has the most goals at {s}?|Which striker leads the list at {s}?
In which stadium does {s} play?|What is the home ground of {s}?|{s} plays its home games at|Where are the home matches of {s}?|Which arena belongs to {s}?
How many people fit into the stadium of {s}?|What is the capacity of the ground of {s}?|The stands of {s} hold|How many seats are there at the home of {s}?|How large is the arena of {s}?
When was {s} founded?|In what year was {s} set up?|{s} was established in|How old is {s}, since when?|Since what year has {s} existed?
In which league does {s} play?|What division is {s} in?|{s} competes in|Which league does {s} belong to?|At what level is {s} playing?
What are the colours of {s}?|Which colours does {s} wear?|{s} plays in|What does the shirt of {s} look like?|In what colour do fans of {s} dress?
What is the nickname of {s}?|How do fans call {s}?|{s} is known as|What else is {s} called?|By which other name does {s} go?
Who is the president of {s}?|Which person chairs {s}?|{s} has as its president|Who sits at the top of the board of {s}?|Who runs the board of {s}?
Who sponsors {s}?|Whose name is on the shirt of {s}?|{s} is sponsored by|Which firm pays for the kit of {s}?|What is the main sponsor of {s}?
Who is the rival of {s}?|Against whom does {s} play the derby?|The arch rival of {s} is|Which team do fans of {s} hate most?|What is the derby opponent of {s}?
How many titles has {s} won?|How often was {s} champion?|{s} has won the league|What is the number of championships of {s}?|How many trophies does {s} own?
What is the mascot of {s}?|Which animal stands for {s}?|{s} has a mascot called|Who dances for {s} at half time?|What creature is the symbol of {s}?""",
    "vehicle": """
How much does {s} weigh?|What is the weight of {s}?|{s} has a mass of|How heavy is {s}?|How many kilos does {s} bring to the scales?
How fast can {s} go?|What is the top speed of {s}?|{s} reaches at most|What is the greatest speed of {s}?|How quick is {s}?
How far does {s} go on one charge?|What is the range of {s}?|{s} can drive up to|How many kilometres does {s} manage without charging?|What distance can {s} cover?
How much fuel does {s} use?|What is the consumption of {s}?|{s} burns|How thirsty is {s}?|How many litres does {s} need?
Which tyres does {s} need?|What size are the tyres of {s}?|{s} runs on tyres of size|Which wheels fit on {s}?|What do I order when I need tyres for {s}?
What tyre pressure does {s} need?|How much air goes into the tyres of {s}?|The tyres of {s} are pumped up to|To what pressure do I fill the tyres of {s}?
When is the next inspection of {s}?|Until when does {s} have to be checked?|{s} is due for inspection in|What month must {s} go to the check-up?|When does the technical check of {s} run out?
When was {s} last serviced?|What was the date of the last service of {s}?|{s} was last at the garage in|When did the workshop last see {s}?
Who drives {s}?|Which driver has {s}?|{s} is driven by|Who sits behind the wheel of {s}?|Whose vehicle is {s}?
Where is {s} parked?|In which spot does {s} stand?|{s} is parked at|Where do I find {s}?|Where did we leave {s}?
What is the number plate of {s}?|Which licence plate does {s} have?|{s} is registered as|What does the plate of {s} say?|What is the registration of {s}?
How many passengers can {s} carry?|How many seats are in {s}?|{s} has room for|How many people can ride in {s}?|What is the seating capacity of {s}?
Which oil does {s} take?|What oil do I fill into {s}?|{s} needs the oil|What type of oil is right for the engine of {s}?
Where is the key of {s}?|Where do we keep the keys for {s}?|The key to {s} hangs|Who has the key of {s}?|Where can I pick up the key for {s}?""",
    "document": """
Who wrote {s}?|Who is the author of {s}?|{s} was written by|By whom was {s} drawn up?|Whose work is {s}?
Who reviewed {s}?|Who checked {s}?|{s} was reviewed by|Which colleague looked over {s}?|Who proofread {s}?
Who approved {s}?|Who signed off {s}?|{s} was released by|Whose approval is on {s}?|Who gave the final okay to {s}?
When was {s} last updated?|What is the date of the latest change to {s}?|{s} was last edited on|When did somebody last work on {s}?|How old is the current version of {s}?
When must {s} be handed in?|What is the deadline for {s}?|{s} has to be submitted by|By when do they want {s}?|On which date is {s} due?
Where is {s} saved?|In which folder do I find {s}?|{s} is kept in|Where can I get hold of {s}?|What is the place where {s} is filed?
Which template is used for {s}?|On what template is {s} based?|{s} is built on the template|What form does {s} follow?
How many pages does {s} have?|How long is {s}?|{s} runs to|What is the page count of {s}?|How thick is {s}?
Who may read {s}?|Who has access to {s}?|{s} is open to|Which people are allowed to see {s}?|For whose eyes is {s}?
How long must {s} be kept?|For how many years do we store {s}?|{s} has to be archived for|After what time may {s} be thrown away?|What is the retention period for {s}?
What is the current version of {s}?|Which version of {s} is valid?|{s} is now at version|What is the newest revision of {s}?
To whom is {s} sent?|Who receives {s}?|{s} goes to|Which people get {s}?|Who is on the mailing list for {s}?
In which language is {s} written?|What language is {s} in?|{s} is available in|Which tongue was used for {s}?""",
    "meeting": """
When does {s} start?|At what time does {s} begin?|{s} starts at|What time should I be at {s}?|When do we kick off {s}?
When does {s} end?|How late does {s} go?|{s} comes to its end at|At what time is {s} finished?|Until when does {s} run?
On which day is {s}?|What day of the week is {s}?|{s} takes place on|Which weekday was chosen for {s}?|What date is {s} on?
In which room is {s}?|Where do we meet for {s}?|{s} is held in|What room was booked for {s}?|Where does {s} happen?
Who leads {s}?|Who chairs {s}?|{s} is run by|Who is the moderator of {s}?|Which person guides us through {s}?
Who takes the minutes at {s}?|Who writes the notes of {s}?|The minutes of {s} are taken by|Who keeps the record of {s}?|Whose job is it to write up {s}?
Who is invited to {s}?|Which people should come to {s}?|{s} is attended by|Who takes part in {s}?|Who has to be at {s}?
What is on the agenda of {s}?|What do we talk about in {s}?|{s} deals with|Which topics come up in {s}?|What is the subject of {s}?
How long does {s} take?|How many minutes is {s}?|{s} lasts|What is the length of {s}?|How much time is set aside for {s}?
What is the link for {s}?|Under which link do I join {s}?|One dials into {s} with|How can I take part in {s} online?|Where do I click to join {s}?
How often is {s} held?|How frequently does {s} take place?|{s} is repeated every|What is the rhythm of {s}?|At what intervals do we have {s}?
What was decided in {s}?|Which decision came out of {s}?|{s} ended with the decision to|What was the result of {s}?|What did people agree on in {s}?
Who brings the food to {s}?|Who organises the catering for {s}?|Coffee for {s} is ordered by|Who sees to drinks and snacks at {s}?""",
    "school": """
Who is the headteacher of {s}?|Who runs {s}?|{s} is headed by|Which person is principal of {s}?|Who is the head of {s}?
Who teaches maths at {s}?|Which teacher gives maths in {s}?|Maths lessons at {s} are given by|Who is the maths teacher of {s}?
Who teaches music at {s}?|Which teacher gives music in {s}?|Music lessons at {s} are given by|Who is the music teacher of {s}?
When does the first lesson at {s} start?|At what time do classes at {s} begin?|Lessons at {s} start at|When do pupils of {s} have to be there?|What time does the school day begin at {s}?
When does school end at {s}?|At what hour do children leave {s}?|The school day at {s} comes to its end at|Until what time are lessons at {s}?|When can I pick up my child from {s}?
How many pupils does {s} have?|How many children go to {s}?|{s} is attended by|What is the number of students at {s}?|How large is {s}?
How many teachers work at {s}?|What is the size of the staff of {s}?|{s} employs|How many people teach at {s}?
What are the fees of {s}?|How much does {s} cost a year?|Parents of {s} pay|What do I have to pay to send a child to {s}?|How expensive is {s}?
When do the summer holidays at {s} begin?|What is the last day of school at {s}?|{s} closes for the summer on|When does {s} go into its summer break?
What do pupils of {s} wear?|What is the uniform of {s}?|Children at {s} are dressed in|Which colour is the uniform of {s}?
Which foreign language is taught at {s}?|What language do pupils learn at {s}?|{s} offers lessons in|Which second language can one take at {s}?
When is the open day of {s}?|On what date can parents visit {s}?|{s} opens its doors to visitors on|When can we have a look at {s}?
Who was {s} named after?|Whose name does {s} bear?|{s} is named after|After which person is {s} called?
When must I register for {s}?|What is the deadline for signing up at {s}?|Applications to {s} close on|By when do I enrol my child at {s}?""",
}
