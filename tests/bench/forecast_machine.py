"""Measure the machine for ``make bench-forecast``: in a process whose memory is nobody's figure."""

import torch

from qcompile.driver.machine import machine_speeds

if __name__ == "__main__":
    torch.set_num_threads(1)
    machine_speeds()
