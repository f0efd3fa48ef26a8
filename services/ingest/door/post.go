package door

import "net/http"

func (d *Door) postJob(w http.ResponseWriter, r *http.Request)   { notFound("").write(w) }
func (d *Door) getJob(w http.ResponseWriter, r *http.Request)    { notFound("").write(w) }
func (d *Door) cancelJob(w http.ResponseWriter, r *http.Request) { notFound("").write(w) }
