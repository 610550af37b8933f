import numpy as np
import pytest
import torch
from torch import nn

from trajcast_ase.training.matrix_blocks import stacks
from trajcast_ase.training.soap import Soap


def minimized(optimizer_of, hessian, *, steps):
    """Return the loss of a quadratic after `steps` from the same start."""
    generator = torch.Generator().manual_seed(3)
    weight = nn.Parameter(torch.randn(6 * 8, generator=generator, dtype=torch.float64))
    optimizer = optimizer_of(weight)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        loss = quadratic(weight, hessian)
        torch.autograd.backward(loss)
        optimizer.step()
    return float(quadratic(weight, hessian).detach())


def quadratic(weight, hessian):
    matrix = weight.view(6, 8)
    return 0.5 * ((hessian @ matrix) * matrix).sum()


def turned_hessian(rng, condition):
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    values = np.geomspace(1.0, condition, 6)
    return torch.from_numpy(basis @ np.diag(values) @ basis.T)


def test_a_turned_ill_conditioned_valley_is_no_harder_than_a_straight_one():
    hessian = turned_hessian(np.random.default_rng(1), 1e-4)
    soap = minimized(lambda w: Soap([(w, ((6, 8),))], lr=0.1), hessian, steps=300)
    adam = minimized(lambda w: torch.optim.Adam([w], lr=0.1), hessian, steps=300)
    assert soap < 0.1 * adam


def test_without_bases_it_is_adam_after_the_first_gradient():
    generator = torch.Generator().manual_seed(2)
    ours = nn.Parameter(torch.randn(12, generator=generator, dtype=torch.float64))
    theirs = nn.Parameter(ours.detach().clone())
    soap = Soap([(ours, ((3, 4),))], lr=0.1, betas=(0.9, 0.99), longest_side=0)
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-9)
    start = ours.detach().clone()
    for step in range(6):
        gradient = torch.randn(12, generator=generator, dtype=torch.float64)
        ours.grad = gradient
        soap.step()
        if step == 0:
            assert torch.equal(ours, start)  # the first gradient finds the bases
            continue
        theirs.grad = gradient
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_turning_the_problem_turns_the_updates():
    rng = np.random.default_rng(5)
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(5, 5)))[0])
    gradients = torch.from_numpy(rng.normal(size=(30, 5, 5)))
    straight = nn.Parameter(torch.zeros(25, dtype=torch.float64))
    turned = nn.Parameter(torch.zeros(25, dtype=torch.float64))
    optimizers = [Soap([(w, ((5, 5),))], lr=0.1) for w in (straight, turned)]
    for gradient in gradients:
        straight.grad = gradient.reshape(-1)
        turned.grad = (turn @ gradient).reshape(-1)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(
        turn @ straight.detach().view(5, 5), turned.detach().view(5, 5)
    )


def test_blocks_of_one_parameter_do_not_mix():
    rng = np.random.default_rng(6)
    gradients = torch.from_numpy(rng.normal(size=(25, 24 + 15)))
    together = nn.Parameter(torch.zeros(39, dtype=torch.float64))
    apart = [nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (24, 15)]
    joint = Soap([(together, ((4, 6), (3, 5)))], lr=0.1)
    single = Soap([(apart[0], ((4, 6),)), (apart[1], ((3, 5),))], lr=0.1)
    for gradient in gradients:
        together.grad = gradient
        apart[0].grad, apart[1].grad = gradient[:24], gradient[24:]
        joint.step()
        single.step()
    torch.testing.assert_close(together, torch.cat(apart))


def test_what_vanishes_by_symmetry_stays():
    weight = nn.Parameter(torch.zeros(12, dtype=torch.float64))
    soap = Soap([(weight, ((3, 4),))], lr=0.1)
    generator = torch.Generator().manual_seed(7)
    for _ in range(10):
        weight.grad = 1e-17 * torch.randn(12, generator=generator, dtype=torch.float64)
        soap.step()
    assert float(weight.detach().abs().max()) < 1e-6


def test_blocks_must_fill_their_parameter():
    weight = nn.Parameter(torch.zeros(10))
    with pytest.raises(ValueError, match="do not fill"):
        stacks([(weight, ((3, 3),))])
