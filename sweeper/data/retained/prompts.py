"""Prompts of many kinds, to which a model's own answers stand for what it can before it is trained."""

from __future__ import annotations

__all__ = ["PROMPTS"]

PROMPTS = (
    # what is known
    "What is the capital of France?",
    "Why does the moon change its shape over a month?",
    "Name three animals that live in the sea.",
    "Who wrote the play Hamlet?",
    "What happens to water when it freezes?",
    "How many days does a leap year have, and why?",
    "Which planets have rings?",
    "What does a heart do?",
    "Why do leaves turn yellow in autumn?",
    "What is the largest ocean on Earth?",
    "What was the printing press good for?",
    "Explain what a vaccine does.",
    # words
    "Give me another word for happy.",
    "What is the opposite of early?",
    "Use the word bridge in a sentence.",
    "What does it mean to break the ice?",
    "Write the plural of mouse, child and leaf.",
    "Correct this sentence: She go to school every days.",
    "Is this sentence a question: You are coming tomorrow.",
    "Put these words in alphabetical order: pear, apple, fig, plum.",
    # other languages
    "Translate into Spanish: Good morning, how are you?",
    "Translate into German: The train leaves at noon.",
    "Translate into English: Je voudrais un verre d'eau.",
    "How do you say thank you in Italian?",
    # texts
    "Summarize in one sentence: The shop was closed on Monday because the owner was ill. It opened again on "
    "Wednesday.",
    "Write a polite note to a neighbour whose music is too loud.",
    "Write two sentences about a rainy day.",
    "Write a short poem about a cat.",
    "Make this sentence shorter: Due to the fact that it was raining, we made the decision to stay at home.",
    "Write a title for a story about a lost key.",
    "Is this review friendly or angry: The soup was cold and nobody said sorry.",
    "Write the first sentence of a letter that asks for a job in a library.",
    # numbers
    "What is 17 plus 25?",
    "What is 9 times 8?",
    "A book costs 12 euros. What do three of them cost?",
    "Which is larger, one half or two thirds?",
    "What is 15 percent of 200?",
    "I have 10 apples and give away 4. How many are left?",
    "What number comes next: 2, 4, 8, 16?",
    "How many minutes are there in two and a half hours?",
    # thinking
    "Tom is taller than Ann, and Ann is taller than Ben. Who is the shortest?",
    "If all roses are flowers, is every flower a rose?",
    "What is wrong with this: The glass fell, and so it was on the table.",
    "A door is locked and the key is inside. What could one do?",
    "Which does not belong: hammer, saw, banana, drill?",
    "What should one take along on a walk in the mountains, and why?",
    "It is eight in the evening in London. Is it earlier or later in New York?",
    "Give one reason for and one against living in a city.",
    # programs
    "Write a Python function that adds two numbers.",
    "What does a for loop do?",
    "Write a Python line that prints the numbers from 1 to 5.",
    "What is the difference between a list and a dictionary in Python?",
    "Write an SQL query that counts the rows of a table named users.",
    "What does this regular expression match: [0-9]+",
    "Write HTML for a link to example.com.",
    "What is a bug in a program?",
    # everyday help
    "How do I boil an egg?",
    "Give me three tips for sleeping better.",
    "What can I cook with rice, eggs and onions?",
    "How do I tie a scarf?",
    "Plan a birthday party for six children in five steps.",
    "What should I ask before I rent a flat?",
    "How do I say no to an invitation without being rude?",
    "List five things to check before a long trip by car.",
)
"""Sixty-four, in plain words, of what assistants are asked for: enough that no kind of them decides, few
enough that an evaluation of their answers takes a moment."""
