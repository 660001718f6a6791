"""AWS with Pulumi: one component per file, one concern per component.

pulumi up --stack dev                      provisions, from this folder
python -m infra.pulumi.render              the graph and the cost of every stack, as pages; needs no cloud
python -m infra.pulumi.render --check      only compares, and checks the policies
"""
