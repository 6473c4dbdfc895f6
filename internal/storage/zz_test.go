package storage
import ("testing";"time";"sort";"github.com/hashicorp/raft";"fmt")
func TestZZ(t *testing.T){
	s:=mustOpen(t,Options{Dir:t.TempDir()})
	d:=make([]byte,4096); for i:=range d {d[i]=1}
	var l []time.Duration
	for i:=uint64(1);i<=25000;i++{ st:=time.Now(); s.Log().StoreLog(&raft.Log{Index:i,Term:1,Data:d}); l=append(l,time.Since(st))}
	sort.Slice(l,func(i,j int)bool{return l[i]<l[j]})
	fmt.Println(l[len(l)/2],l[len(l)*99/100],l[len(l)*999/1000],l[len(l)-5:])
}
