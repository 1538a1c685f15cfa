"""The parts of scripts/dev/bench, in the order a run goes through them:

cli           options, which measurements, exit status
tools         installs and builds what is missing
children      the processes a run starts, and how each of them ends
peers         the echo servers compared
echo          interleaved rounds of echo under load
instructions  user instructions per message under callgrind
nodes         pipes between nodes, connect time, start time
memory        what an idle pipe costs
targets       the figures the project promises
report        the table and the JSON file
"""
