"""Supervised few-shot learning: a task is a handful of examples with answers (support) and
questions (query).

Read `types` first: episodes, where tasks come from, and the adapter that answers. `losses` says
what an answer is trained by and judged by. `evaluate` measures an adapter on tasks it has never
seen. `gradient_adapter` is the adapter of learners that take inner gradient steps. The learners
themselves are in `algorithms`.

Where tasks come from: `sinusoid` and `logistic` are drawn from formulas. Pictures are held by
`images`, which draws N-way K-shot tasks from any classes of pictures; `digits`, `omniglot`,
`cifar100` (CIFAR-FS and FC100), `mini_imagenet`, `tiered_imagenet` and `folder` (a user's own)
bring them. `deferred` reads them only once tasks are drawn, for trained learners on machines
without the data. `checks` tries out a user's own source. Below these, `omniglot_archives` downloads
and checks, `picture_files` reads files from folders and archives, `picture_pixels` decodes one,
`pickled_data` reads pickles of arrays without running what they say, by `pickle_machine` and
`pickle_values`.
"""
