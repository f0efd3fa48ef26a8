// Package credentials makes by what the nodes of a NATS cluster and its users know each other: nkeys of the users, of
// which the servers' configuration holds the public half alone, and certificates of the nodes, signed by an authority
// that signs nothing else.
//
//	ca.key              signs certificates of nodes; nobody needs it while anything runs
//	next/<user>.nk      the seed that a user will have next, which the servers know already
//	nodes/users.conf    the public keys, as variables for the configuration of the servers
//	nodes/ca.pem, node.pem, node.key
//	<user>/<user>.nk    the user's seed
//	<user>/ca.pem
//
// Each folder but next is what one kind of process is given, as a folder: a file that is replaced in it is seen there.
//
// A rotation puts the next seed in the place of the user's, and makes a new next one. From that moment on processes that
// connect are known by the key that was the next one; those that are connected by the old one are disconnected when the
// servers load users.conf again, and come back by the new one. So there is no moment in which a seed is refused.
package credentials
