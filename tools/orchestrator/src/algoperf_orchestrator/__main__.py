"""`python -m algoperf_orchestrator`: what a trial's process is started with."""

from algoperf_orchestrator.cli import main

if __name__ == "__main__":
    main()
