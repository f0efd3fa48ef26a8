// Package bundle keeps the versions of tasks on the broker, so that each job ends under the version that admitted it
// whichever process works on it, and says which version of each task is live.
//
//	object bucket llm_tasks     <task>/<version>   a Bundle: the task's files and the entries of its models
//	key-value bucket llm_versions   <task>         a Record: which version is live, since when, by whom, and those before it
//
// A bundle is stored before a record names it: whoever sees a live version can fetch it. It holds no providers: where
// calls and keys go is said by each process's own models.yaml alone, for a bundle that could say so would be a way to
// steal keys. A bundle is an uncompressed tar, so that an operator can look at it:
//
//	nats obj get llm_tasks analyze/9f2c41aa && tar tf analyze/9f2c41aa
//
// Who makes a version live (Store.Push):
//
//	task push, a save in a watched folder   always
//	the start of a process                  a version that was never live; else it is left as it is, and said
//	the start of a simulating process       the same, and nothing in the place of a version that calls models
//	the start of `up` on its own server     also one that was live before, unless a rollback left it
//
// TestAnOldReplicaTakesNothingBack and its neighbours pin it. A Keeper makes a process follow the records.
package bundle
