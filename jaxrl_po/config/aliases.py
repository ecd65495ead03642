"""What other libraries call the fields of a config: to answer an unknown name with ours."""

from collections.abc import Collection

_MINIBATCHES = """batch_size minibatch_size mini_batch_size sgd_minibatch_size train_batch_size
    nminibatches n_minibatches num_mini_batch num_mini_batches num_batches"""
_EPOCHS = """n_epochs num_epochs epochs noptepochs ppo_epoch ppo_epochs num_ppo_epochs num_sgd_iter
    repeat_per_collect train_pi_iters"""
_CRITIC_UPDATES = "n_critic_updates train_v_iters vf_iters critic_updates"
_TRUST_REGION = "delta kl_target kl_threshold kl_limit"
_HIDDEN = """net_arch policy_kwargs agent_kwargs hidden_layers layers hidden_layer_sizes hid width
    fcnet_hiddens hidden_dim hidden_size num_hidden"""

# Ours: theirs. Of several the first that the method has is meant.
THEIRS = {
    "env_id": "env env_name environment gym_id task",
    "env_params": "env_kwargs env_config",
    "num_envs": "n_envs nenvs num_workers num_env_runners num_processes",
    "num_steps": """n_steps nsteps rollout_length rollout_fragment_length unroll_length horizon
        steps_per_epoch timesteps_per_batch""",
    "total_timesteps": """total_steps total_frames num_timesteps num_env_steps max_steps timesteps
        n_timesteps""",
    "gamma": "discount discount_factor discounting",
    "gae_lambda": "lam lambda lambda_ gae_lam",
    "critic_learning_rate": "vf_lr critic_lr value_lr vf_stepsize",
    "learning_rate": "lr pi_lr actor_lr step_size stepsize vf_lr critic_lr value_lr vf_stepsize",
    "anneal_lr": "lr_schedule use_linear_lr_decay lr_decay",
    "max_grad_norm": "grad_clip clip_grad_norm max_norm",
    "hidden_sizes": _HIDDEN,
    "activation": "activation_fn fcnet_activation nonlinearity",
    "network": "policy arch model",
    "shared_torso": "share_features_extractor vf_share_layers",
    "log_std_init": "log_std init_log_std logstd_init",
    "squash_actions": "squash_output tanh_squash",
    "normalize_observations": "norm_obs normalize_obs obs_norm",
    "normalize_rewards": "norm_reward normalize_reward whiten_rewards",
    "advantage_normalization": """norm_adv normalize_advantage normalize_advantages
        advantage_norm""",
    "num_minibatches": _MINIBATCHES,
    "critic_epochs": f"{_CRITIC_UPDATES} critic_num_epochs",
    "update_epochs": f"{_EPOCHS} {_CRITIC_UPDATES}",
    "critic_minibatches": _MINIBATCHES,
    "clip_eps": """clip_range cliprange clip_coef clip_ratio clip_param clip_epsilon eps_clip
        epsilon clip""",
    "value_clip_eps": "clip_range_vf cliprange_value vf_clip_param value_clip",
    "clip_value": "clip_vloss use_clipped_value_loss clip_value_loss",
    "vf_coef": "value_coef vf_loss_coeff value_loss_coef critic_coef vf_cost value_coefficient",
    "ent_coef": """entropy_coef entropy_coeff entropy_cost entropy_coefficient entropy_beta
        entcoeff""",
    "kl_coef": "kl_coeff init_kl_coef beta kl_beta",
    "max_kl": f"target_kl {_TRUST_REGION}",
    "target_kl": f"max_kl {_TRUST_REGION}",
    "cg_iters": "cg_max_steps cg_iterations num_cg_iters",
    "cg_damping": "damping damping_coeff fvp_damping",
    "max_backtracks": "line_search_max_iter backtrack_iters ls_max_steps",
    "backtrack_coeff": "line_search_shrinking_factor backtrack_ratio",
    "fisher_fraction": "sub_sampling_factor",
    "num_seeds": "n_seeds num_agents num_runs",
    "evaluate_every": "eval_freq eval_every evaluation_interval",
    "num_episodes": "n_eval_episodes eval_episodes n_episodes",
    "tensorboard": "tensorboard_log use_tensorboard",
    "wandb": "wandb_project wandb_project_name track",
    "directory": "log_dir logdir save_dir output_dir out_dir",
}
_TWO_STEPS = "with clip_value=True"
_COUNTS_MINIBATCHES = "a number of minibatches: num_envs * num_steps / their size"
# Where ours is not the same quantity, or not alone.
DIFFERENCES = {
    **dict.fromkeys(("batch_size", "minibatch_size", "mini_batch_size"), _COUNTS_MINIBATCHES),
    **dict.fromkeys(("sgd_minibatch_size", "train_batch_size"), _COUNTS_MINIBATCHES),
    **dict.fromkeys(("clip_range_vf", "cliprange_value", "vf_clip_param"), _TWO_STEPS),
    "sub_sampling_factor": "the part that is kept: 1 / their factor",
    "eval_freq": "segments, of which a run has 20, between two evaluations",
}


def alias(name: str, known: Collection[str]) -> str | None:
    """The known name for what others call `name`, or None."""
    theirs = name.lower()
    return next((ours for ours in THEIRS if ours in known and theirs in THEIRS[ours].split()), None)


def difference(name: str) -> str:
    """What to mind when a value of others' `name` is carried over, in brackets, or nothing."""
    note = DIFFERENCES.get(name.lower())
    return f" ({note})" if note else ""
