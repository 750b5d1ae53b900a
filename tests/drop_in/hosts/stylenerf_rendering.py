"""StyleNeRF's camera and volume renderer: plain objects that hold each other."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.drop_in.hosts.common_rendering import sample_pdf as _formula
from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


def sample_pdf(bins, weights, N_importance, det=False, eps=1e-5):
    CALLS.append("sample_pdf")
    return _formula(bins, weights, N_importance, det, eps)


class CameraRay:
    def calc_volume_weights(self, sigma, z_vals=None, ray_vector=None, dists=None, last_dist=1e10):
        CALLS.append("calc_volume_weights")
        if dists is None:
            dists = z_vals[..., 1:] - z_vals[..., :-1]
            if ray_vector is not None:
                dists = dists * torch.norm(ray_vector, dim=-1, keepdim=True)
            dists = torch.cat([dists, torch.full_like(dists[..., :1], last_dist)], -1)
        alpha = 1 - torch.exp(-F.relu(sigma) * dists)
        if last_dist > 0:
            alpha[..., -1] = 1
        through = transmittance(alpha, 2)
        return alpha * through, through[..., -1], dists


class NeRFInput:
    keep_posenc = -1

    def query_input_features(self, p_i, input_feats, p_shape, bound, grad_inputs=False):
        CALLS.append("query_input_features")
        B, height, width, steps = p_shape
        p_i = p_i / bound
        x, y, z = p_i.split(1, -1)
        if input_feats[0] == "tri_plane":
            if len(input_feats) == 4:
                z = -z
            pairs = [torch.cat(pair, -1).unsqueeze(2) for pair in ((x, y), (x, z), (y, z))]
            planes = [input_feats[1][:, i] for i in range(3)]
            sampled = [F.grid_sample(f, p, align_corners=False) for f, p in zip(planes, pairs, strict=True)]
            features = sum(sampled).squeeze(-1).transpose(1, 2)
        elif input_feats[0] == "volume":
            points = torch.cat([y, -z, x], -1)[:, :, None, None]
            features = F.grid_sample(input_feats[1], points, align_corners=False)[..., 0, 0].transpose(1, 2)
        else:
            raise NotImplementedError("StyleNeRF: " + input_feats[0])
        if self.keep_posenc > -1:
            features = torch.cat([features, p_i], -1)
        return features


class VolumeRenderer:
    def __init__(self, camera, encoding):
        self.C, self.I = camera, encoding

    def forward_hierarchical_sampling(self, di, weights, n_steps, det=False):
        mid = 0.5 * (di[..., :-1] + di[..., 1:])
        bins = mid.shape[-1]
        fine = sample_pdf(mid.reshape(-1, bins), weights.reshape(-1, bins + 1)[:, 1:-1], n_steps, det=det)
        return fine.reshape(len(di), -1, n_steps)


class NeRFSynthesisNetwork(nn.Module):
    def __init__(self, kind="tri_plane"):
        super().__init__()
        self.C, self.I = CameraRay(), NeRFInput()
        self.V = VolumeRenderer(self.C, self.I)
        self.kind = kind
        self.grid = nn.Parameter(torch.randn(1, 3, 4, 5, 6) if kind == "tri_plane" else torch.randn(1, 4, 5, 6, 7))
        self.out = nn.Linear(4, 6)

    def forward(self, di, ray_vector):
        """di [B,R,S], ray_vector [B,R,3] -> [B,R,5]."""
        feat, sigma = self.field(di, ray_vector)
        weights, _, _ = self.V.C.calc_volume_weights(sigma, di, ray_vector, last_dist=1e10)
        with torch.no_grad():
            di = self.V.forward_hierarchical_sampling(di, weights, di.shape[-1], det=not self.training)
        feat, sigma = self.field(di, ray_vector)
        weights, through, _ = self.V.C.calc_volume_weights(sigma, di, ray_vector, last_dist=0)
        return torch.cat([(weights.unsqueeze(-1) * feat).sum(-2), through.unsqueeze(-1)], -1)

    def field(self, di, ray_vector):
        B, R, S = di.shape
        points = (di.unsqueeze(-1) * ray_vector.unsqueeze(-2)).reshape(B, -1, 3)
        grid = self.grid.expand(B, -1, -1, -1, -1)
        out = self.out(self.V.I.query_input_features(points, (self.kind, grid), (B, R, 1, S), 2.0))
        return out[..., 1:].reshape(B, R, S, 5), F.softplus(out[..., 0]).reshape(B, R, S)
