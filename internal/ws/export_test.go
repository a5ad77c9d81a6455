package ws

// Held is how many bytes of a message r has room for.
func (r *Reader) Held() int { return cap(r.message.data) }
